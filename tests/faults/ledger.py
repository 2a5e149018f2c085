"""What was written, what arrived, and the verdict. Pure bookkeeping: no database, no broker.

Signals are known by numbers that are never used twice, also not by a later fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figures:
    """The figures of one fault.

    :param lost: signals that were committed, not withdrawn by the application, and never arrived.
    :param phantom: messages about signals that were never committed.
    :param duplicates: messages beyond the first of a signal.
    :param most_often: so often the message came that came most often.
    """

    committed: int
    rolled_back: int
    withdrawn: int
    received: int
    lost: int
    phantom: int
    duplicates: int
    most_often: int

    def problems(self, duplicates_bound: int, most_often_bound: int) -> list[str]:
        """What of this breaks the promise."""
        found = []
        if not self.committed:
            found.append("nothing was committed, so nothing is proved")
        if self.lost:
            found.append(f"{self.lost} of {self.committed} signals are lost")
        if self.phantom:
            found.append(f"{self.phantom} messages are about signals that were never committed")
        if self.duplicates > duplicates_bound:
            found.append(f"{self.duplicates} duplicates, where {duplicates_bound} are the bound")
        if self.most_often > most_often_bound:
            found.append(f"one message came {self.most_often} times, where {most_often_bound} is the bound")
        return found


class Ledger:
    """What is known of the signals of one fault."""

    def __init__(self) -> None:
        self.withdrawn: set[int] = set()
        self.rolled_back = 0
        self._received: Counter[int] = Counter()

    def arrived(self, numbers: Iterable[int]) -> None:
        self._received.update(numbers)

    def figures(self, committed: set[int], committed_before: set[int]) -> Figures:
        """Compare what arrived with what the database says.

        :param committed: the signals of this fault that were committed.
        :param committed_before: those of earlier faults. They have arrived; each message about one is a duplicate.
        """
        arrived = self._received.keys()
        known = committed | committed_before
        return Figures(
            committed=len(committed),
            rolled_back=self.rolled_back,
            withdrawn=len(self.withdrawn & committed),
            received=sum(self._received.values()),
            lost=len(committed - arrived - self.withdrawn),
            phantom=sum(count for number, count in self._received.items() if number not in known),
            duplicates=sum(
                count - (number in committed) for number, count in self._received.items() if number in known
            ),
            most_often=max((count for number, count in self._received.items() if number in known), default=0),
        )
