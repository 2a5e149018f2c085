"""How much is measured: in full, or in two minutes."""

from __future__ import annotations

from dataclasses import dataclass

#: Signals of a burst, and messages that the ceilings keep without an answer on each connection.
BURST_COUNT = 1000

#: Workers of a relay, and connections of the ceilings, where nothing else is said.
WORKERS = 2

#: Bytes of a body, where nothing else is said.
BODY_BYTES = 200


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    :param signals: of one drain.
    :param rounds: how often everything is measured, in turns.
    :param dead_rows: of the table that an old snapshot keeps from being cleaned.
    :param backlog: of the long one.
    :param seconds: of what runs for a time: latency, producers.
    :param settle_seconds: until a relay that has nothing to do counts as idle.
    :param idle_seconds: of the watch over it.
    """

    is_quick: bool
    signals: int
    rounds: int
    dead_rows: int
    backlog: int
    seconds: float
    settle_seconds: float
    idle_seconds: float


FULL = Scale(False, 40_000, 5, 1_000_000, 1_000_000, 8.0, 8.0, 15.0)
QUICK = Scale(True, 6_000, 1, 50_000, 50_000, 2.0, 7.0, 6.0)
#: For the test that everything fits together.
TINY = Scale(True, 1_500, 1, 2_000, 3_000, 0.5, 2.0, 1.0)
