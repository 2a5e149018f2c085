"""``python -m tests.support.night_table`` makes everything happen that can go wrong, and prints what each place says.

A real browser shows the page; screenshots are saved in the directory that ``SIGNALBUS_SCREENSHOTS`` names.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from .browser import Browser, browser
from .guardian import guardian
from .night import Night
from .night_causes import CAUSES, Cause, agrees, commands, hear, is_well, log_sizes
from .night_faults import stopped_broker
from .prefork import fork_server
from .waiting import eventually


def _row(night: Night, cause: Cause, chromium: Browser) -> Iterator[str]:
    before = log_sizes(night)
    with cause.make(night):
        began = time.monotonic()
        late: dict[str, float] = {}
        left = [["not asked"]]
        while any(left) and time.monotonic() - began < 20:
            said = [hear(night, relay, before) for relay in night.relays]
            left = [agrees(cause, one) for one in said]
            late |= {place: time.monotonic() - began for place in chain(*left)}
        took = time.monotonic() - began
        first = said[0]
        chromium.open(f"http://127.0.0.1:{night.relays[0].port}/")
        for scheme in ("light", "dark"):
            chromium.prefer(scheme)
            for width in (1180, 390):
                chromium.picture(f"{cause.name.replace(' ', '-')}-{scheme}-{width}", width)
        shown = chromium.text(".verdict").replace("\n", " / ")
        chromium.leave()
        told = commands(night)
        alerts = night.prometheus.alerts()
    eventually(lambda: cause.make is stopped_broker or is_well(night), 90, f"all is well after {cause.name}")
    metrics = [line for line in first.metrics.splitlines() if re.match(_TELLING, line) and not line.endswith(" 0.0")]
    yield f"\n### {cause.name}: all places of both relays agreed after {took:.1f} s" + (
        f"; still missing: {left}" if any(left) else ""
    )
    yield f"- last to say it: {max(late.items(), key=lambda one: one[1]) if late else 'all at once'}"
    yield f"- page (browser): {shown}"
    yield f"- badge: {first.model['state']} since {first.model['state_since']}: {first.model['state_reason']}"
    ready = first.ready
    yield f"- /readyz: ready {ready['ready']}, {ready['reasons']}, Order: {ready['models']['Order']}"
    yield f"- /metrics: {'; '.join(metrics)}"
    for name, text in told.items():
        yield f"- {name}: " + " / ".join(line for line in text.splitlines() if not _OF_SERVERS.search(line))
    for line in first.log:
        if line["level"] in ("WARNING", "ERROR"):
            yield f"- log: {line['message']} ({line.get('action')}; to do: {line.get('to_do')})"
    yield f"- alerts: {alerts}"


_TELLING = (
    r"signalbus_(backlog_signals|lag_seconds|waiting_signals|parked_signals|broker_up|broker_blocked|database_up"
    r'|horizon_held_seconds)\b|signalbus_model_state\{signal="Order"'
)


#: What ``check`` says about servers that are as fast as can be.
_OF_SERVERS = re.compile("^✓|fsync|synchronous|utovacuum|out-of-support|doorbell")


def main() -> None:
    with ExitStack() as stack:
        stack.callback(guardian.close)
        stack.callback(fork_server.close)
        night = Night(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        chromium = stack.enter_context(browser())
        chromium.open(f"http://127.0.0.1:{night.relays[0].port}/")
        for scheme in ("light", "dark"):
            chromium.prefer(scheme)
            for width in (1180, 390):
                chromium.picture(f"flowing-{scheme}-{width}", width)
        chromium.leave()
        for cause in CAUSES:
            for line in _row(night, cause, chromium):
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
