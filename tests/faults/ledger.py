"""What was written, what arrived, and the verdict. Pure bookkeeping: no database, no broker.

Signals are known by numbers that are never used twice, also not by a later fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from relay.drill.kinds.verdict import inverted

#: While nothing is wrong, a scheduled signal is sent within so many seconds of its time.
LATE_SECONDS = 5.0


@dataclass(frozen=True)
class Expected:
    """What signals that were committed have to comply with.

    :param places: the key of each keyed signal, and its place in the order of the commits.
    :param due: when each scheduled signal was due.
    :param calm_since: from this moment on nothing kept signals from being sent at their time.
    """

    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)
    calm_since: float = float("inf")

    def early(self, built_at: dict[int, float]) -> int:
        return sum(built_at.get(number, due) < due for number, due in self.due.items())

    def late(self, built_at: dict[int, float]) -> int:
        return sum(
            due > self.calm_since and built_at.get(number, due) > due + LATE_SECONDS for number, due in self.due.items()
        )


@dataclass(frozen=True)
class Figures:
    """The figures of one fault.

    :param lost: signals that were committed, not withdrawn by the application, and never arrived.
    :param lost_numbers: the first of these.
    :param phantom: messages about signals that were never committed.
    :param duplicates: messages beyond the first of a signal.
    :param most_often: so often the message came that came most often.
    :param unaccounted: signals that were committed, not withdrawn, and are neither in the outbox nor in the history.
    :param at_moments: what was wrong with the sum at some moment.
    :param shared_ids: message ids that more than one signal had. A consumer would drop the second one.
    :param inversions: signals whose first message came after that of a later one of their key.
    :param early: scheduled signals that were sent before their time.
    :param late: those that were sent too long after it.
    """

    committed: int
    rolled_back: int
    withdrawn: int
    received: int
    lost: int
    phantom: int
    duplicates: int
    most_often: int
    lost_numbers: tuple[int, ...] = ()
    shared_ids: int = 0
    unaccounted: int = 0
    inversions: int = 0
    early: int = 0
    late: int = 0
    at_moments: tuple[str, ...] = ()

    def problems(self, duplicates_bound: int, most_often_bound: int) -> list[str]:
        """What of this breaks the promise."""
        found = list(self.at_moments)
        if not self.committed:
            found.append("nothing was committed, so nothing is proved")
        if self.lost:
            found.append(f"{self.lost} of {self.committed} signals are lost: {self.lost_numbers}")
        if self.phantom:
            found.append(f"{self.phantom} messages are about signals that were never committed")
        if self.inversions:
            found.append(f"{self.inversions} signals came after later ones of their keys")
        if self.early:
            found.append(f"{self.early} signals were sent before their time")
        if self.late:
            found.append(f"{self.late} signals were sent more than {LATE_SECONDS:g} s after their time")
        if self.unaccounted:
            found.append(f"{self.unaccounted} signals are neither in the outbox nor in the history")
        if self.shared_ids:
            found.append(f"{self.shared_ids} message ids are of more than one signal")
        if self.duplicates > duplicates_bound:
            found.append(f"{self.duplicates} duplicates, where {duplicates_bound} are the bound")
        if self.most_often > most_often_bound:
            found.append(f"one message came {self.most_often} times, where {most_often_bound} is the bound")
        return found


#: Nothing has an order or a time.
EXPECTED = Expected()


class Ledger:
    """What is known of the signals of one fault.

    :param ids: whose each message id is, as far as earlier faults tell.
    """

    def __init__(self, ids: dict[str, int] | None = None) -> None:
        self.ids = {} if ids is None else ids
        self._shared_ids: set[str] = set()
        self.withdrawn: set[int] = set()
        #: Committed once, and gone since, with their business data: a failover has lost them.
        self.forgotten: set[int] = set()
        #: Committed, and neither in the outbox nor in the history.
        self.unaccounted: set[int] = set()
        #: What was wrong with the sum of outbox and history at some moment.
        self.at_moments: list[str] = []
        self.rolled_back = 0
        self._received: Counter[int] = Counter()
        #: When the first message of each signal was built, in the order in which they arrived.
        self._built_at: dict[int, float] = {}

    def arrived(self, numbers: Iterable[int]) -> None:
        self._received.update(numbers)

    def identified(self, number: int, message_id: str, built_at: float = 0.0) -> int:
        """Note whose id this is, and when its message was built; return the number."""
        self._built_at.setdefault(number, built_at)
        if self.ids.setdefault(message_id, number) != number:
            self._shared_ids.add(message_id)
        return number

    def figures(self, committed: set[int], committed_before: set[int], expected: Expected = EXPECTED) -> Figures:
        """Compare what arrived with what the database says.

        :param committed: the signals of this fault that were committed.
        :param committed_before: those of earlier faults. They have arrived; each message about one is a duplicate.
        :param expected: of the committed ones, their order and their times.
        """
        arrived = self._received.keys()
        new = committed | self.forgotten
        known = new | committed_before
        lost = committed - arrived - self.withdrawn
        return Figures(
            committed=len(committed),
            rolled_back=self.rolled_back,
            withdrawn=len(self.withdrawn & committed),
            received=sum(self._received.values()),
            lost=len(lost),
            shared_ids=len(self._shared_ids),
            unaccounted=len(self.unaccounted - self.withdrawn),
            inversions=len(inverted(self._built_at, expected.places)),
            early=expected.early(self._built_at),
            late=expected.late(self._built_at),
            at_moments=tuple(self.at_moments),
            lost_numbers=tuple(sorted(lost)[:10]),
            phantom=sum(count for number, count in self._received.items() if number not in known),
            duplicates=sum(count - (number in new) for number, count in self._received.items() if number in known),
            most_often=max((count for number, count in self._received.items() if number in known), default=0),
        )
