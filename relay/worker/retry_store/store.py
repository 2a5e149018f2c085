"""What a store of failed signals can do, and what both stores conclude from a retry.

Invariant: a failed signal stays in its own table, ordinary bursts leave it out, and it is tried again when it is due.
Signals that the broker answered for are tried together, those whose send method raised are tried alone, and of those
that one destination refused, one is tried for all. Of signals that were sent, only the delete is tried.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from signalbus_core.lowlevel import BurstResult, Choice, DueSignal, FailedSignal, Key, SignalRef

from ..retry_policy import ITS_OWN_FAULT, Evidence
from .notes import Due

#: A relay that takes signals for a retry postpones them by so long for all others. Shorter: a signal whose row another
#: session has locked is tried more often; longer: one whose relay died waits longer.
TAKEN_SECONDS = 5.0


class RetryStore(Protocol):
    """The failed signals of one model."""

    def choice(self, avoid: Sequence[SignalRef]) -> Choice:
        """What an ordinary burst selects: neither these nor failed signals."""

    def has_due(self) -> bool:
        """Whether a signal is due, as far as this process knows without a query."""

    def take_due(self, limit: int, avoid: Sequence[SignalRef] = ()) -> Due:
        """Due signals that may be tried in one burst, without those to avoid.

        They are postponed for all workers, so that one that cannot be locked does not delay the other due signals.
        """

    def due_keys(self, limit: int) -> list[Key]:
        """Due signals, for diagnosis; they are not taken."""

    def retry(self, keys: tuple[SignalRef, ...]) -> Choice:
        """What a burst selects that tries these signals again."""

    def put(
        self, failed: Sequence[FailedSignal], evidence: Evidence = ITS_OWN_FAULT, *, is_retry: bool = False
    ) -> list[Key]:
        """Record failed attempts; return the keys of the signals that are parked now.

        :param is_retry: the signals were in the store. Else a record under the same key is about an earlier row.
        """

    def tried(self, due: Due, result: BurstResult, recorded: Collection[Key] = ()) -> None:
        """Record the result of a retry, except for signals that were :meth:`put` just now: ``recorded``."""

    def count(self) -> tuple[int, int]:
        """How many signals are waiting, and how many are parked."""

    def clean_up(self) -> None:
        """Remove signals whose row is gone or has changed."""

    @property
    def most(self) -> int:
        """The largest number of signals in the store."""


def unanswered(due: Due, result: BurstResult, recorded: Collection[Key]) -> list[DueSignal]:
    """Signals that were tried without a known outcome: they are due again at once."""
    if not (result.has_unmentioned or result.is_outage):
        return []
    return [one for one in due.signals if one.key in result.keys and one.key not in recorded]


def recovered_destinations(due: Due, result: BurstResult) -> list[str]:
    """Destinations that accepted the one signal that was tried for all of theirs."""
    if result.has_unmentioned or result.is_outage:
        return []
    failed = {one.key for one in result.failed}
    arrived = [one for one in due.signals if one.key in result.keys and one.key not in failed]
    return [one.destination for one in arrived if one.destination is not None]
