"""The oracle: records signals, messages and faults, and decides what was lost. Pure: the time is passed in.

Invariant: a signal whose COMMIT got no answer is in doubt: it counts as neither lost nor phantom.
"""

from __future__ import annotations

import bisect
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import accumulate

from .kinds.verdict import inverted, too_early, too_late


@dataclass(frozen=True)
class Fault:
    """An injected fault.

    :param over_at: when it was repaired.
    :param relays_hit: relays whose bursts in flight it may have interrupted.
    """

    kind: str
    over_at: float
    relays_hit: int


@dataclass(frozen=True)
class Tally:
    """The comparison of written signals and arrived messages.

    :param keyed: how many of the committed ones have an order.
    :param scheduled: how many of them were due later.
    :param lost: numbers that were committed, never arrived, and are not in the table either.
    :param late: numbers that are still in the table, or arrived too long after their time.
    :param phantom: numbers that arrived and were never committed.
    :param duplicates: messages beyond the first of a number.
    :param inversions: numbers that arrived for the first time after a later one of their key.
    :param early: numbers that arrived before their time.
    """

    committed: int
    rolled_back: int
    in_doubt: int
    received: int
    lost: tuple[int, ...]
    late: tuple[int, ...]
    phantom: tuple[int, ...]
    duplicates: int
    inversions: tuple[int, ...] = ()
    early: tuple[int, ...] = ()
    keyed: int = 0
    scheduled: int = 0

    @property
    def is_good(self) -> bool:
        return self.committed > 0 and not (self.lost or self.late or self.phantom or self.inversions or self.early)


@dataclass(frozen=True)
class Effects:
    """What consumers with an inbox did.

    :param kills: how often one was killed, by step.
    :param count: how many effects there are.
    :param missing: numbers that were committed, and have none.
    :param repeated: numbers that have several.
    :param phantom: numbers that have one, and were never committed.
    """

    kills: dict[str, int]
    count: int
    missing: tuple[int, ...]
    repeated: tuple[int, ...]
    phantom: tuple[int, ...]

    @property
    def is_good(self) -> bool:
        return not (self.missing or self.repeated or self.phantom)


@dataclass(frozen=True)
class Recovery:
    """The time from the end of a fault until all signals that were committed by then had arrived."""

    seconds: float
    kind: str


@dataclass
class Oracle:
    """The record of signals by their numbers, messages, and faults. Several threads write to it."""

    committed: dict[int, float] = field(default_factory=dict)
    rolled_back: int = 0
    in_doubt: set[int] = field(default_factory=set)
    arrivals: dict[int, float] = field(default_factory=dict)
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    due: dict[int, tuple[float, float]] = field(default_factory=dict)
    received: int = 0
    first_arrival: float = 0.0
    last_arrival: float = 0.0
    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note_committed(self, numbers: Iterable[int], time: float) -> None:
        with self._lock:
            self.committed.update(dict.fromkeys(numbers, time))

    def note_written(self, places: Mapping[int, tuple[int, int]], due: Mapping[int, tuple[float, float]]) -> None:
        """Record the keys and times of signals, before they are committed.

        :param places: of each keyed signal its key, and its place in the order of the commits.
        :param due: of each scheduled signal the first and the last moment at which it may become due.
        """
        with self._lock:
            self.places.update(places)
            self.due.update(due)

    def note_rolled_back(self, count: int) -> None:
        with self._lock:
            self.rolled_back += count

    def note_in_doubt(self, numbers: Iterable[int]) -> None:
        with self._lock:
            self.in_doubt.update(numbers)

    def note_arrival(self, number: int, time: float, *, redelivered: bool = False) -> None:
        """Record a message.

        :param redelivered: the broker's redelivered flag. If it arrived before, the consumer had lost its connection,
          and the relay did not cause the duplicate.
        """
        with self._lock:
            if redelivered and number in self.arrivals:
                return
            self.first_arrival = self.first_arrival or time
            self.last_arrival = time
            self.received += 1
            self.arrivals.setdefault(number, time)

    def note_fault(self, fault: Fault) -> None:
        with self._lock:
            self.faults.append(fault)

    def missing(self) -> int:
        """How many committed numbers have not arrived so far."""
        with self._lock:
            return len(self.committed.keys() - self.arrivals.keys())

    def tally(self, committed: AbstractSet[int] | None = None, waiting: AbstractSet[int] = frozenset()) -> Tally:
        """The verdict.

        :param committed: the numbers that were committed, where a more exact source than this record exists.
        :param waiting: the numbers that are still in the table.
        """
        with self._lock:
            truth: AbstractSet[int] = self.committed.keys() if committed is None else committed
            missing = truth - self.arrivals.keys()
            return Tally(
                committed=len(truth),
                rolled_back=self.rolled_back,
                in_doubt=len(self.in_doubt),
                received=self.received,
                lost=tuple(sorted(missing - waiting)),
                late=tuple(sorted(missing & waiting | set(too_late(self.arrivals, self.due)))),
                phantom=tuple(sorted(self.arrivals.keys() - truth - self.in_doubt)),
                duplicates=self.received - len(self.arrivals),
                inversions=tuple(sorted(inverted(self.arrivals, self.places))),
                early=tuple(sorted(too_early(self.arrivals, self.due))),
                keyed=len(truth & self.places.keys()),
                scheduled=len(truth & self.due.keys()),
            )

    def effects(self, found: Iterable[int], kills: dict[str, int]) -> Effects:
        """The comparison of written signals and effects.

        :param found: the number of each effect.
        """
        counts = Counter(found)
        with self._lock:
            return Effects(
                kills=kills,
                count=counts.total(),
                missing=tuple(sorted(self.committed.keys() - counts.keys())),
                repeated=tuple(sorted(number for number, times in counts.items() if times > 1)),
                phantom=tuple(sorted(counts.keys() - self.committed.keys() - self.in_doubt)),
            )

    def faults_by_kind(self) -> dict[str, int]:
        with self._lock:
            return dict(Counter(fault.kind for fault in self.faults))

    def duplicates_bound(self, burst_count: int, workers: int) -> int:
        """The largest number of duplicates from the faults: the bursts then in flight, of each relay that they hit."""
        with self._lock:
            return sum(fault.relays_hit for fault in self.faults) * burst_count * workers

    def longest_recovery(self) -> Recovery | None:
        """The longest recovery from a fault; None where nothing was pending when a fault ended."""
        with self._lock:
            times = sorted(
                (committed, self.arrivals[number])
                for number, committed in self.committed.items()
                if number in self.arrivals
            )
            latest_arrivals = list(accumulate((arrival for _, arrival in times), max))
            recoveries = []
            for fault in self.faults:
                before = bisect.bisect_right(times, (fault.over_at, float("inf")))
                if before and latest_arrivals[before - 1] > fault.over_at:
                    recoveries.append(Recovery(latest_arrivals[before - 1] - fault.over_at, fault.kind))
        return max(recoveries, key=lambda recovery: recovery.seconds, default=None)
