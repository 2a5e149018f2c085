"""In which order a replay sends signals, and which it holds back. Pure: no database, no broker.

Those of an ordered model are sent in waves, as in a burst: the first of each key together, then the second of each. A
signal that is not sent holds back those behind it in its key, unless its model skips parked ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from signalbus_core.lowlevel import SentSignal, SignalSpec

#: So many reasons for which single signals were not sent are kept.
MOST_REASONS = 20


def waves(signals: Sequence[SentSignal]) -> list[list[SentSignal]]:
    """Signals in waves, each with at most one of a key; without an order, in one."""
    numbers: Counter[tuple[str, ...]] = Counter()
    found: list[list[SentSignal]] = []
    for one in signals:
        number = 0
        if one.order_key is not None:
            number = numbers[one.order_key]
            numbers[one.order_key] += 1
        if number == len(found):
            found.append([])
        found[number].append(one)
    return found


@dataclass(frozen=True)
class Replay:
    """What became of a replay.

    :param sent: how many signals were sent.
    :param unsent: the first signals that were not, each with the reason: their rows or messages cannot be made, the
      broker has no place for them, or they are held back behind such a one.
    :param failed: how many those are in all.
    :param stopped_at: the first signal that is left since the broker did not confirm one, which ended the replay; None
      when it went on to its end.
    """

    sent: int = 0
    failed: int = 0
    unsent: tuple[tuple[str, str], ...] = ()
    stopped_at: SentSignal | None = None
    reason: str | None = None


@dataclass
class Progress:
    """What has become of the signals of a replay so far."""

    spec: SignalSpec
    sent: int = 0
    failed: int = 0
    unsent: list[tuple[str, str]] = field(default_factory=list)
    _holding: dict[tuple[str, ...], str] = field(default_factory=dict)

    def fail(self, one: SentSignal, reason: str) -> None:
        """A signal is not sent."""
        self.failed += 1
        if len(self.unsent) < MOST_REASONS:
            self.unsent.append((one.key, reason))
        order = self.spec.order
        if one.order_key is not None and order is not None and not order.skips_parked:
            self._holding.setdefault(one.order_key, one.key)

    def held_back(self, one: SentSignal) -> str | None:
        """Why a signal may not be sent; None when it may."""
        first = None if one.order_key is None else self._holding.get(one.order_key)
        return None if first is None else f"{first}, which comes before it in its key, was not sent"

    def result(self, stopped_at: SentSignal | None = None, reason: str | None = None) -> Replay:
        return Replay(self.sent, self.failed, tuple(self.unsent), stopped_at, reason)
