"""Runs a drill. Invariant: whatever it starts or creates is ended and removed, also after a stop request."""

from __future__ import annotations

import itertools
import queue
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.lowlevel import STOP_SIGNALS, stop_requests
from signalbus_core.rabbitmq import Publisher

from .app import BURST_COUNT, PREFIX, environment
from .inbox.consumer import KILLED
from .injector import ENDING_SECONDS, RELAY_PART, FaultInjector, plan
from .kinds.traffic import traffic_of
from .load import Consumer, Quota, SignalWriter
from .oracle import Effects, Oracle
from .proxy import Proxy, Upstream, broker_detour, broker_upstream, database_detour, database_upstream
from .relay_process import RelayProcess
from .report import DrillReport
from .resources import Resources, first_line
from .settings import DrillFailedError, DrillInterrupted, DrillSettings, heartbeats, idle_timeout

#: A drill that runs in a terminal ends with it.
ENDING_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)


class StopRequests:
    """The waits of the main thread, which a stop request ends."""

    def __init__(self) -> None:
        #: A signal handler may interrupt the main thread at any point; putting into this queue is safe even there.
        self.requests: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wait(self, seconds: float) -> None:
        """Wait.

        :raises DrillInterrupted: a stop request came.
        """
        try:
            name = self.requests.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return
        raise DrillInterrupted(name)


#: The worker threads of each relay.
WORKERS = 2

#: The time limit for the start of the relays.
STARTING_SECONDS = 60.0

#: The time limit after the last fault for all committed signals to arrive. Longer than a worker's longest backoff.
SETTLING_SECONDS = 120.0

#: When the table and the queue are empty, the last message arrives within this time.
QUIET_SECONDS = 0.5

#: The same while signals are missing: before they count as lost, the consumer gets time to reconnect.
MISSING_SECONDS = 5.0

#: The prefixes of environment variables that are meant for the user's own relays.
FOREIGN_PREFIXES = ("SIGNALBUS_RELAY_", f"{PREFIX}_")


def run(settings: DrillSettings, environ: Mapping[str, str], say: Callable[[str], None]) -> DrillReport:
    """Run a drill.

    :param environ: of this process; the relays inherit it.
    :param say: prints progress, one line or more.
    :raises DrillUsageError: it cannot begin.
    :raises DrillFailedError: it could not be completed, or something could not be removed.
    :raises DrillInterrupted: there was a stop request.
    """
    stops = StopRequests()
    with stop_requests(stops.requests.put, ENDING_SIGNALS), ExitStack() as stack:
        return Drill(settings, environ, say, stops.wait, stack).run()


class Drill:
    """One drill. Whatever it starts is registered in ``stack``, which ends it."""

    def __init__(
        self,
        settings: DrillSettings,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        wait: Callable[[float], None],
        stack: ExitStack,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._say = say
        self._wait = wait
        self._stack = stack
        self._ledger = Oracle()
        self._writers: list[SignalWriter] = []
        self._consumers: RelayProcess | None = None
        self._heartbeats = heartbeats(settings.amqp_url)
        self._stage = Resources(
            settings.database_url,
            settings.amqp_url,
            settings.queue_type,
            with_inbox=settings.with_inbox,
            with_order=min(self._heartbeats) > 0,
        )

    def run(self) -> DrillReport:
        for sentence in self._stage.check():
            self._say(sentence)
        self._say(f"Table, exchange and queue: {self._stage.name}")
        if min(self._heartbeats) == 0:
            self._say("Order by key is not tested: relays refuse it, because the URL of the broker has heartbeat=0.")
        self._say(f"To break the same things again: --seed {self._settings.seed}")
        self._stack.callback(self._stage.close)
        self._stage.open()
        breaker, relays = self._start_relays()
        consumer = Consumer(self._settings.amqp_url, self._stage.name, self._receive)
        self._stack.callback(consumer.stop)
        self._start_writers()
        self._break_things(breaker)
        self._say("Nothing is broken any more; waiting for what is on its way.")
        self._settle(breaker)
        self._settle_effects()
        self._stop_relays(relays)
        return self._report()

    def _start_relays(self) -> tuple[FaultInjector, list[RelayProcess]]:
        """Start the relays behind proxies, and wait until they relay: their start is not measured."""
        database_url, database = self._database_proxy()
        amqp_url, broker = self._broker_proxy()
        inherited = {key: value for key, value in self._environ.items() if not key.startswith(FOREIGN_PREFIXES)}
        shown = self._stage.named(database_url, RELAY_PART).render_as_string(hide_password=False)
        with_order = min(self._heartbeats) > 0
        environ = inherited | environment(self._stage.name, shown, amqp_url, with_order=with_order)
        command = [sys.executable, "-m", "relay.cli", "run", "--app", "relay.drill.app:create_app", "--http", "off"]
        command += ["--workers", str(WORKERS), "--idle-timeout", str(idle_timeout(max(self._heartbeats)))]
        if self._settings.with_inbox:
            self._start_consumers(environ)
        relays = [RelayProcess(number + 1, command, environ) for number in range(self._settings.relays)]
        for relay in relays:
            self._stack.callback(relay.close)
            relay.start()
        deadline = time.monotonic() + STARTING_SECONDS
        while waiting := [relay for relay in relays if not relay.is_up()]:
            ended = [relay for relay in waiting if relay.has_ended()]
            if ended or time.monotonic() >= deadline:
                relay = (ended or waiting)[0]
                raise DrillFailedError(f"Relay {relay.number} did not start:\n{relay.log_tail()}")
            self._wait(0.1)
        return FaultInjector(relays, self._stage, database, broker, self._ledger, self._wait), relays

    def _start_consumers(self, environ: Mapping[str, str]) -> None:
        """Start the consumers with an inbox. They use the relays' URLs, so their connections break with the relays'."""
        own = {f"{PREFIX}_SEED": str(self._settings.seed), f"{PREFIX}_KILL_SECONDS": str(self._settings.seconds)}
        command = [sys.executable, "-m", "relay.drill.inbox.consumer"]
        self._consumers = RelayProcess(0, command, {**environ, **own})
        self._stack.callback(self._consumers.close)
        self._consumers.start()

    def _database_proxy(self) -> tuple[URL, Proxy | None]:
        url = self._settings.database_url

        def refusal(port: int) -> str | None:
            engine = sa.create_engine(self._stage.named(database_detour(url, port), "detour"), poolclass=sa.NullPool)
            try:
                engine.connect().close()
            except SQLAlchemyError as error:
                return first_line(error)
            return None

        proxy = self._proxy("database", database_upstream(url, self._environ), refusal)
        return (database_detour(url, proxy.port), proxy) if proxy is not None else (url, None)

    def _broker_proxy(self) -> tuple[str, Proxy | None]:
        url = self._settings.amqp_url

        def refusal(port: int) -> str | None:
            publisher = Publisher(url=broker_detour(url, port))
            try:
                publisher.connect()
            except SignalBusError as error:
                return first_line(error)
            finally:
                publisher.close()
            return None

        proxy = self._proxy("broker", broker_upstream(url), refusal)
        return (broker_detour(url, proxy.port), proxy) if proxy is not None else (url, None)

    def _proxy(self, server: str, upstream: Upstream | str, refusal: Callable[[int], str | None]) -> Proxy | None:
        """A proxy in front of a server; None, and a printed reason, where no proxy can be used."""
        if isinstance(upstream, Upstream):
            proxy = Proxy(upstream.host, upstream.port)
            self._stack.callback(proxy.close)
            reason = refusal(proxy.port)
            if reason is None:
                return proxy
        else:
            reason = upstream
        self._say(f"The relays' connections to the {server} are neither cut nor stalled: {reason}.")
        return None

    def _receive(self, body: bytes, redelivered: bool) -> None:
        # A body that is no number was not written by this drill, and counts as a phantom.
        self._ledger.note_arrival(int(body) if body.isdigit() else -1, time.time(), redelivered=redelivered)

    def _start_writers(self) -> None:
        numbers, places = itertools.count(1), itertools.count(1)
        kinds = [traffic_of(table, places) for table in self._stage.tables]
        shares = [self._settings.signals // 2, self._settings.signals - self._settings.signals // 2]
        for index, share in enumerate(share for share in shares if share):
            writer = SignalWriter(
                self._stage.engine("writer"),
                kinds,
                numbers,
                Quota(share, self._settings.seconds),
                self._ledger,
                f"{self._settings.seed}-{index + 1}",
            )
            self._stack.callback(writer.stop)
            self._writers.append(writer)
            writer.start()

    def _break_things(self, breaker: FaultInjector) -> None:
        began = time.monotonic()
        end = began + self._settings.seconds
        for fault in plan(self._settings.seed, breaker.kinds, self._settings.relays):
            self._wait(min(fault.after_seconds, end - time.monotonic()))
            self._revive(breaker)
            left = end - time.monotonic()
            if left <= 0:
                return
            breaker.apply(fault, min(fault.lasting_seconds, left))
            about = f" (relay {fault.relay + 1})" if fault.kind.value.startswith("relay") else ""
            figures = f"{len(self._ledger.committed):,} committed, {self._ledger.received:,} received"
            self._say(f"  {time.monotonic() - began:6.1f} s  {fault.kind.value}{about}; {figures}")

    def _revive(self, breaker: FaultInjector) -> None:
        for relay in breaker.revive():
            self._say(f"Relay {relay.number} ended by itself, and was started again:\n{relay.log_tail()}")

    def _settle(self, breaker: FaultInjector) -> None:
        """Wait until all committed signals have arrived, or no more can arrive, or until the time limit."""
        deadline = time.monotonic() + SETTLING_SECONDS
        quiet_since = time.monotonic()
        received = -1
        while time.monotonic() < deadline:
            self._revive(breaker)
            still_there = self._stage.waiting() != frozenset() or self._stage.queued() != 0
            is_writing = any(writer.is_alive for writer in self._writers)
            if is_writing or still_there or received != self._ledger.received:
                received, quiet_since = self._ledger.received, time.monotonic()
            enough = MISSING_SECONDS if self._ledger.missing() else QUIET_SECONDS
            if time.monotonic() - quiet_since >= enough:
                return
            self._wait(0.2)

    def _settle_effects(self) -> None:
        """Wait until each committed signal has its effect, or until there was no further one within the time limit."""
        before, deadline = -1, 0.0
        while self._consumers and (missing := len(self._effects().missing)):
            if missing != before:
                before, deadline = missing, time.monotonic() + SETTLING_SECONDS
            elif time.monotonic() >= deadline:
                return
            self._wait(0.5)

    def _effects(self) -> Effects:
        lines = self._consumers.log_lines() if self._consumers else []
        kills = Counter(line.removeprefix(KILLED) for line in lines if line.startswith(KILLED))
        return self._ledger.effects(self._stage.effects() or (), dict(kills))

    def _stop_relays(self, relays: list[RelayProcess]) -> None:
        for relay in relays:
            relay.ask_to_stop()
        for relay in relays:
            relay.wait(ENDING_SECONDS)

    def _report(self) -> DrillReport:
        return DrillReport(
            seed=self._settings.seed,
            asked=self._settings.signals,
            faults=self._ledger.faults_by_kind(),
            tally=self._ledger.tally(waiting=self._stage.waiting() or frozenset()),
            duplicates_bound=self._ledger.duplicates_bound(BURST_COUNT, WORKERS),
            recovery=self._ledger.longest_recovery(),
            effects=self._effects() if self._consumers else None,
        )
