"""What is broken, and when: drawn by a seed, so that a drill can be repeated. Pure.

The kinds are dealt like cards: each comes once before any comes again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

#: Between two faults, at least and at most.
CALM_SECONDS = (0.1, 1.0)

#: How long a pause or a stall lasts, at least and at most.
LASTING_SECONDS = (0.3, 2.5)


class FaultKind(str, Enum):
    """A way to break something that belongs to the drill; the value is what the report calls it."""

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


#: What a relay does without being asked; never planned, only seen.
ENDED_BY_ITSELF = "relay ended by itself"


@dataclass(frozen=True)
class PlannedFault:
    """A fault to come.

    :param relay: index of the relay that it is for, where it is for one.
    :param after_seconds: the calm before it.
    :param lasting_seconds: until it is made good, where it lasts.
    """

    kind: FaultKind
    relay: int
    after_seconds: float
    lasting_seconds: float


def plan(seed: int, kinds: Sequence[FaultKind], relays: int) -> Iterator[PlannedFault]:
    """Faults without end."""
    chance = random.Random(seed)
    while True:
        deck = list(kinds)
        chance.shuffle(deck)
        for kind in deck:
            yield PlannedFault(
                kind, chance.randrange(relays), chance.uniform(*CALM_SECONDS), chance.uniform(*LASTING_SECONDS)
            )
