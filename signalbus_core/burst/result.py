"""The result of one burst. Frozen: everything in it is committed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..errors import Outcome, Proved, PublishError
from ..failures import is_outage_error
from ..model.contract import SignalSpec
from ..sql.keys import Key, SignalRef, is_read_exactly
from ..sql.rows import Row


@dataclass(frozen=True)
class FailedSignal:
    """A signal that was tried and not sent; it is still in its table.

    :param key: its primary key, as a tuple.
    :param outcome: why it was not sent.
    :param version: for one that was sent and cannot be deleted, the version of its row, as :class:`Proved` has it.
    :param row: the id of its row, by which it is found where Python reads its key as another; None when not known.
    """

    key: Key
    outcome: Outcome
    version: str | None = None
    row: str | None = None

    @property
    def proved(self) -> Proved:
        """The same, as a signal that was proved sent."""
        return Proved(self.key, self.version, self.row)


def refs_of(spec: SignalSpec, signal: FailedSignal | Proved) -> tuple[SignalRef, ...]:
    """What a burst excludes so that it does not take this signal.

    Where the model may read a key as another than it is, that is the id of its row too.
    """
    if signal.row is None or is_read_exactly(spec, signal.key):
        return (signal.key,)
    return (signal.key, signal.row)


def failed_row(row: Row, outcome: Outcome) -> FailedSignal:
    """The signal of a row that a burst has taken, as one that failed."""
    return FailedSignal(row.key, outcome, row=row.ids[-1] if row.ids else None)


@dataclass(frozen=True)
class BurstResult:
    """The result of one burst. Everything in it is committed.

    :param selected: signals that were locked.
    :param sent: signals that were sent and deleted.
    :param keys: of the signals that were locked.
    :param failed: signals that are known to have failed, each with its outcome. Signals that are neither sent nor
      failed were not tried, or their outcome is not known.
    :param undeleted: signals that were proved sent, and are still in their table because the database does not let
      them be deleted; the outcome of each says why, with the cause ``undeleted``. They are neither sent nor failed.
      They only have to be deleted, by :func:`signalbus_core.delete_sent`, and are never sent again.
    :param error: what the send method raised, None when it returned.
    :param reason: the same in one line for people, without the signals' own values; empty when it returned.
    :param written_at: when the signals that were sent had been written, as far as the model has the time.
    :param message_bytes: of the messages that were made of them; None when their sender does not report them.
    :param can_keep_rows: whether something may refuse the delete of single rows of the table: a foreign key, a trigger
      or a rule; None when it was not queried.
    :param is_cut: there were more signals, which were left out: too large to be sent in the same burst, for example.
    :param lowest: the first key of the scan in the order of the key; None when it found none.
    :param next_seconds: until the next signal is due, from when these were locked; None when none is known.
    :param lock_seconds: from the start until the signals were locked and loaded.
    :param send_seconds: spent in the send method.
    :param commit_seconds: from there until the commit has returned.
    """

    selected: int
    sent: int = 0
    failed: tuple[FailedSignal, ...] = ()
    undeleted: tuple[FailedSignal, ...] = ()
    keys: tuple[Key, ...] = ()
    error: BaseException | None = None
    reason: str = ""
    written_at: tuple[datetime, ...] = ()
    message_bytes: int | None = None
    can_keep_rows: bool | None = None
    is_cut: bool = False
    lowest: Key | None = None
    next_seconds: float | None = None
    lock_seconds: float = 0.0
    send_seconds: float = 0.0
    commit_seconds: float = 0.0

    @property
    def seconds_until_next(self) -> float | None:
        """Until the next scheduled signal is due, from the end of the burst; None when none is known."""
        if self.next_seconds is None:
            return None
        return self.next_seconds - self.send_seconds - self.commit_seconds

    @property
    def is_outage(self) -> bool:
        """Whether something that sending needs is unavailable: for example, the broker did not answer."""
        if any(failed.outcome.is_unanswered for failed in self.failed):
            return True
        if isinstance(self.error, PublishError):
            return any(outcome.is_unanswered for outcome in self.error.outcomes)
        return not self.failed and is_outage_error(self.error)

    @property
    def possible_duplicates(self) -> int:
        """How many signals are still in their table although the broker may have one of their messages."""
        found = sum(failed.outcome.may_be_stored for failed in self.failed)
        if isinstance(self.error, PublishError) and not self.failed:
            # It is not known which message belongs to which signal; each may belong to another one.
            found = sum(outcome.may_be_stored for outcome in self.error.outcomes)
        return min(found, self.selected - self.sent - len(self.undeleted))

    @property
    def has_unmentioned(self) -> bool:
        """Whether the outcome of some signals is not known. Without an error, the time ran out first."""
        return self._mentioned < self.selected

    @property
    def failed_whole(self) -> bool:
        """Whether several signals failed together, so that it is not known which of them is the cause."""
        if self.selected < 2 or self.is_outage:
            return False
        if any(failed.outcome.cause == "closed" for failed in self.failed):
            return True
        return self.error is not None and not self._mentioned

    @property
    def failed_alone(self) -> bool:
        """Whether the send method raised an error for a single signal."""
        return not self.sent and any(failed.outcome.cause == "error" for failed in self.failed)

    @property
    def _mentioned(self) -> int:
        """The number of signals whose outcome is known."""
        return self.sent + len(self.failed) + len(self.undeleted)
