"""Plans faults from a seed, so that a drill can be repeated, and injects them. :func:`plan` is pure.

The kinds are shuffled: each comes once before any comes again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from .oracle import Fault, Oracle
from .proxy import Proxy
from .relay_process import RelayProcess
from .resources import Resources

#: The shortest and the longest time between two faults.
CALM_SECONDS = (0.1, 1.0)

#: The shortest and the longest duration of a pause or a stall.
LASTING_SECONDS = (0.3, 2.5)


class FaultKind(str, Enum):
    """A kind of fault in a part of the drill; the value is its name in the report."""

    KILL_RELAY = "relay killed"
    PAUSE_RELAY = "relay paused"
    RESTART_RELAY = "relay restarted"
    END_SESSIONS = "database sessions ended"
    CUT_DATABASE = "database connections cut"
    STALL_DATABASE = "database stalled"
    CUT_BROKER = "broker connections cut"
    STALL_BROKER = "broker stalled"
    KILL_IN_DATABASE_STALL = "relay killed in database stall"
    KILL_IN_BROKER_STALL = "relay killed in broker stall"


#: A relay that ended without a fault of the plan; only observed.
ENDED_BY_ITSELF = "relay ended by itself"


@dataclass(frozen=True)
class PlannedFault:
    """A planned fault.

    :param relay: index of the relay that it affects, where it affects one.
    :param after_seconds: the time without a fault before it.
    :param lasting_seconds: until it is repaired, where it lasts.
    """

    kind: FaultKind
    relay: int
    after_seconds: float
    lasting_seconds: float


def plan(seed: int, kinds: Sequence[FaultKind], relays: int) -> Iterator[PlannedFault]:
    """An endless sequence of faults."""
    chance = random.Random(seed)
    while True:
        deck = list(kinds)
        chance.shuffle(deck)
        for kind in deck:
            yield PlannedFault(
                kind, chance.randrange(relays), chance.uniform(*CALM_SECONDS), chance.uniform(*LASTING_SECONDS)
            )


#: A relay that does not end within so many seconds after SIGTERM is killed.
ENDING_SECONDS = 40.0

#: The part of the drill whose database sessions are terminated.
RELAY_PART = "relay"


class FaultInjector:
    """Injects faults.

    :param database: the proxy between the relays and the database, where there is one.
    :param broker: the same for the broker.
    :param pause: waits; raises when the drill is asked to stop.
    """

    def __init__(
        self,
        relays: Sequence[RelayProcess],
        stage: Resources,
        database: Proxy | None,
        broker: Proxy | None,
        ledger: Oracle,
        pause: Callable[[float], None],
    ) -> None:
        self._relays = relays
        self._stage = stage
        self._ledger = ledger
        self._pause = pause
        # Each returns the number of relays whose bursts in flight it may have interrupted.
        self._actions: dict[FaultKind, Callable[[RelayProcess, float], int]] = {
            FaultKind.KILL_RELAY: self._kill,
            FaultKind.PAUSE_RELAY: self._pause_relay,
            FaultKind.RESTART_RELAY: self._restart,
            FaultKind.END_SESSIONS: self._end_sessions,
        }
        if database is not None:
            self._actions[FaultKind.CUT_DATABASE] = lambda _relay, _seconds: self._cut(database)
            self._actions[FaultKind.STALL_DATABASE] = lambda _relay, seconds: self._stall(database, seconds)
            self._actions[FaultKind.KILL_IN_DATABASE_STALL] = lambda *fault: self._kill_in_stall(database, *fault)
        if broker is not None:
            self._actions[FaultKind.CUT_BROKER] = lambda _relay, _seconds: self._cut(broker)
            self._actions[FaultKind.STALL_BROKER] = lambda _relay, seconds: self._stall(broker, seconds)
            self._actions[FaultKind.KILL_IN_BROKER_STALL] = lambda *fault: self._kill_in_stall(broker, *fault)

    @property
    def kinds(self) -> list[FaultKind]:
        """The possible kinds of faults."""
        return list(self._actions)

    def apply(self, fault: PlannedFault, lasting_seconds: float) -> Fault:
        """Inject a fault, and repair it after ``lasting_seconds`` where it lasts."""
        hit = self._actions[fault.kind](self._relays[fault.relay], lasting_seconds)
        return self._note(fault.kind.value, hit)

    def revive(self) -> list[RelayProcess]:
        """Restart the relays that ended by themselves; return them."""
        ended = [relay for relay in self._relays if relay.has_ended()]
        for relay in ended:
            relay.start()
            self._note(ENDED_BY_ITSELF, 1)
        return ended

    def _note(self, kind: str, hit: int) -> Fault:
        noted = Fault(kind, time.time(), hit)
        self._ledger.note_fault(noted)
        return noted

    def _kill(self, relay: RelayProcess, _seconds: float) -> int:
        relay.kill()
        relay.start()
        return 1

    def _pause_relay(self, relay: RelayProcess, seconds: float) -> int:
        relay.pause()
        try:
            self._pause(seconds)
        finally:
            relay.resume()
        return 1

    def _restart(self, relay: RelayProcess, _seconds: float) -> int:
        relay.ask_to_stop()
        deadline = time.monotonic() + ENDING_SECONDS
        while not relay.has_ended() and time.monotonic() < deadline:
            self._pause(0.05)
        exit_code = relay.wait(0)
        relay.start()
        return 0 if exit_code == 0 else 1

    def _end_sessions(self, _relay: RelayProcess, _seconds: float) -> int:
        return len(self._relays) if self._stage.end_sessions(RELAY_PART) else 0

    def _cut(self, proxy: Proxy) -> int:
        proxy.cut()
        return len(self._relays)

    def _stall(self, proxy: Proxy, seconds: float) -> int:
        proxy.stall()
        try:
            self._pause(seconds)
        finally:
            proxy.resume()
        return len(self._relays)

    def _kill_in_stall(self, proxy: Proxy, relay: RelayProcess, seconds: float) -> int:
        """Kill a relay that waits for an answer: its request still reaches the server."""
        proxy.stall()
        try:
            self._pause(seconds)
            relay.kill()
        finally:
            proxy.resume()
        relay.start()
        return len(self._relays)
