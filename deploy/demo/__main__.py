"""The demo: a shop commits orders, two relays send their signals, a consumer checks what arrives.

Half-way one relay is killed and started again. Ends with a report; exit code 0 only when nothing was lost and nothing
was invented. Leaves no process and no directory behind, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType

import sqlalchemy as sa

from relay.drill.load import Consumer
from tests.support.guardian import guardian
from tests.support.servers import acquire_postgres, acquire_rabbitmq

from .ledger import Ledger, Report
from .opening import open_shop
from .parts import Customers, Relay, order_consumer, shop_environment
from .shop import create_app

#: Without any progress for so many seconds, what is missing counts as lost.
PATIENCE_SECONDS = 60.0

#: The killed relay stays away for so long.
DOWN_SECONDS = 2.0


class DemoError(Exception):
    """The demo could not be carried through; the message says which part failed."""


def main() -> int:
    arguments = read_arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with closing(guardian), ExitStack() as stack:
            report = run(stack, arguments.orders, arguments.relays)
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started has been stopped.")
        return 130
    except DemoError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    show_report(report)
    return 0 if report.is_good else 1


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--orders", type=int, default=20_000, help="how many orders are committed (default: 20000)")
    parser.add_argument("--relays", type=int, default=2, help="how many relay processes send them (default: 2)")
    arguments = parser.parse_args()
    if arguments.orders < 1 or arguments.relays < 1:
        parser.error("--orders and --relays must be at least 1")
    return arguments


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(stack: ExitStack, orders: int, relay_count: int) -> Report:
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"signalbus-{os.getpid()}-demo-")))
    guardian.watch("directory", str(directory))
    say("Starting PostgreSQL and RabbitMQ ...")
    postgres = stack.enter_context(acquire_postgres())
    rabbitmq = stack.enter_context(acquire_rabbitmq())
    database_url = postgres.create_database()
    environ = shop_environment(database_url, rabbitmq.url)
    open_shop(create_app(environ))

    ledger = Ledger()
    say(f"Starting {relay_count} relays, and customers who place {orders:,} orders ...")
    relays = [Relay(number + 1, environ) for number in range(relay_count)]
    for relay in relays:
        stack.callback(relay.close)
        relay.start()
    wait_for(relays)
    consumer = order_consumer(rabbitmq.url, ledger)
    stack.callback(consumer.stop)
    customers = Customers(orders, environ, ledger, directory)
    stack.callback(customers.stop)

    watch(ledger, orders, relays, consumer, customers, directory)
    for relay in relays:
        if relay.stop() != 0:
            raise DemoError(f"Relay {relay.number} did not end well:\n{relay.log_tail()}")
    return ledger.report(orders_in(database_url))


def wait_for(relays: list[Relay]) -> None:
    """Wait until the relays relay: what is measured is their work, not their start."""
    ticks = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not all(relay.is_up() for relay in relays):
        ended = [relay for relay in relays if relay.has_ended()]
        if ended or time.monotonic() >= deadline:
            raise DemoError(f"Relay {(ended or relays)[0].number} did not start:\n{(ended or relays)[0].log_tail()}")
        ticks.wait(0.1)


def watch(
    ledger: Ledger, orders: int, relays: list[Relay], consumer: Consumer, customers: Customers, directory: Path
) -> None:
    """Show progress until every order has arrived; kill a relay on the way, and start it again."""
    ticks = threading.Event()
    victim = relays[0]
    killed_at: float | None = None
    restarted = False
    seen, seen_at = -1, time.monotonic()
    while True:
        ticks.wait(0.2)
        now = time.monotonic()
        if killed_at is None and len(ledger.committed) >= orders // 2:
            victim.kill()
            killed_at = now
            say(f"Relay {victim.number} was killed (SIGKILL).", ledger)
        if killed_at is not None and not restarted and now - killed_at >= DOWN_SECONDS:
            victim.start()
            restarted = True
            say(f"Relay {victim.number} was started again.", ledger)
        for relay in relays:
            if relay.has_ended() and not (relay is victim and killed_at is not None and not restarted):
                raise DemoError(f"Relay {relay.number} ended by itself:\n{relay.log_tail()}")
        if not consumer.is_alive:
            raise DemoError("The consumer lost its connection to the broker.")
        if customers.have_finished():
            if customers.exit_code != 0:
                log = (directory / "customers.log").read_text(errors="replace")
                raise DemoError(f"The customers could not place their orders:\n{log[-2000:]}")
            if restarted and victim.is_up() and ledger.missing() == 0:
                say("Every order has arrived.", ledger)
                return
        progress = ledger.received + len(ledger.committed)
        if progress != seen:
            seen, seen_at = progress, now
        elif now - seen_at > PATIENCE_SECONDS:
            say(f"Nothing has moved for {PATIENCE_SECONDS:.0f} s.", ledger)
            return
        show_progress(ledger, orders)


def orders_in(database_url: str) -> set[int]:
    """What the database says was committed: the truth that messages are held against."""
    engine = sa.create_engine(database_url)
    try:
        with engine.connect() as connection:
            return set(connection.scalars(sa.text('SELECT id FROM "order"')))
    finally:
        engine.dispose()


_last_shown = 0.0


def show_progress(ledger: Ledger, orders: int) -> None:
    """One line that renews itself on a terminal; one line every five seconds elsewhere."""
    global _last_shown
    on_terminal = sys.stdout.isatty()
    if time.monotonic() - _last_shown < (0.2 if on_terminal else 5.0):
        return
    _last_shown = time.monotonic()
    line = (
        f"  committed {len(ledger.committed):>8,} of {orders:,}   rolled back {ledger.rolled_back:>7,}"
        f"   received {ledger.received:>8,}   on the way {ledger.missing():>7,}"
    )
    print(f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", flush=True)


def say(text: str, ledger: Ledger | None = None) -> None:
    """A line that stays."""
    start = "\r\x1b[K" if sys.stdout.isatty() and ledger is not None else ""
    count = f" ({len(ledger.committed):,} committed, {ledger.received:,} received)" if ledger is not None else ""
    print(f"{start}{text}{count}", flush=True)


def show_report(report: Report) -> None:
    rows = [
        ("orders committed", f"{report.committed:,}"),
        ("orders rolled back", f"{report.rolled_back:,}"),
        ("messages received", f"{report.received:,}"),
        ("lost", f"{report.lost:,}"),
        ("phantom", f"{report.phantom:,}"),
        ("duplicates", f"{report.duplicates:,}"),
        ("messages per second", f"{report.per_second:,.0f}"),
        ("commit to arrival, p50", f"{report.p50_seconds * 1000:,.1f} ms"),
        ("commit to arrival, p99", f"{report.p99_seconds * 1000:,.1f} ms"),
    ]
    print()
    for name, value in rows:
        print(f"  {name:<24}{value:>14}")
    print()
    if report.is_good:
        print("Nothing lost, nothing invented.")
    else:
        print("FAILED: something was lost or invented.")


if __name__ == "__main__":
    sys.exit(main())
