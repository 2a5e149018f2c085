"""What a burst of a model is to do, and what followed from it."""

from __future__ import annotations

from dataclasses import dataclass, field

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import BurstResult, FailedSignal, Proved, SignalRef

from .recovery.fresh_first import FreshScan
from .retry_policy import ITS_OWN_FAULT, Evidence

#: The cause of a note that says no more than that a signal was alone in an outage.
SUSPECT = "suspect"


@dataclass(frozen=True)
class BurstPlan:
    """The parameters of the next burst of a model.

    :param limit: the largest number of signals in it.
    :param avoid: signals to leave out.
    :param rehearse: verify first that signals can be deleted.
    :param retry: try waiting signals whose next try is due.
    :param suspect: try this signal alone, to find out whether it caused an outage.
    :param proved: delete these signals, which were sent, and send nothing.
    :param can_keep_rows: the database may refuse the delete of single signals.
    :param fresh: take new signals only, and leave the backlog for the next burst; None: the usual scan.
    :param known_failures: how many bursts in a row had failed when it was planned; None when that does not matter.
    """

    limit: int
    avoid: tuple[SignalRef, ...]
    rehearse: bool
    retry: bool = False
    suspect: SignalRef | None = None
    proved: tuple[Proved, ...] = ()
    can_keep_rows: bool = False
    known_failures: int | None = None
    fresh: FreshScan | None = None

    @property
    def is_scan(self) -> bool:
        """Whether it takes the lowest keys, whichever they are."""
        return not self.retry and self.suspect is None and not self.proved


@dataclass(frozen=True)
class BurstDecision:
    """What follows from a burst.

    :param more: the next burst may follow at once.
    :param wait_seconds: how long no worker takes the model.
    :param problem: what is wrong with the model as a whole, for people; None when nothing is.
    :param failed: signals for the retry store, including those that were sent and cannot be deleted.
    :param evidence: whether their attempts count.
    :param recovered: signals were sent, and no failure of the model as a whole is known to last.
    :param is_scan: the burst was not a further try of signals that had failed.
    """

    more: bool
    wait_seconds: float = 0.0
    problem: str | None = None
    failed: tuple[FailedSignal, ...] = ()
    evidence: Evidence = field(default=ITS_OWN_FAULT)
    recovered: bool = False
    is_scan: bool = True


def each_alone(result: BurstResult) -> tuple[FailedSignal, ...]:
    """Signals that failed together, recorded as if each had raised by itself: so each is tried alone."""
    answered = {one.key for one in result.failed if one.outcome.cause != "unknown"}
    together = Outcome(OutcomeKind.UNKNOWN, result.reason, cause="error")
    rest = (FailedSignal(key, together) for key in result.keys if key not in answered and not result.sent)
    return (*(one for one in result.failed if one.key in answered), *rest, *result.undeleted)


def problem_of(result: BurstResult) -> str:
    """What is wrong with a model of which a burst sent nothing, for people."""
    if result.failed:
        return f"{len(result.failed)} of {result.selected} signals not sent; first: {result.failed[0].outcome}"
    return result.reason
