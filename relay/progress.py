"""What the bursts of one model have shown so far, and what follows from it.

An outage (no answer from the broker, a database error) costs no signal an attempt: the model waits, and goes on with a
single signal. A signal that failed for its own sake is set aside, while the others of its model go on. Pure: the time
is passed in. Workers and the probe share it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from signalbus_core import BurstError, BurstResult, BurstSize, FailedSignal, Key, SignalSpec, error_text

from .breaker import Breaker
from .pacing import Backoff
from .suspects import Suspects


@dataclass(frozen=True)
class BurstPlan:
    """What the next burst of a model is to be like.

    :param limit: the largest number of signals in it.
    :param avoid: signals to leave out.
    :param rehearse: make sure first that signals can be deleted.
    :param retry: try signals again that were set aside and whose time has come.
    """

    limit: int
    avoid: tuple[Key, ...]
    rehearse: bool
    retry: bool = False


@dataclass(frozen=True)
class Verdict:
    """What follows from a burst.

    :param more: the next burst may follow at once.
    :param wait_seconds: how long to leave the model alone.
    :param trouble: what is wrong with the model as a whole, for people; None when nothing is.
    :param failed: signals to set aside.
    :param counted: whether their attempts count.
    """

    more: bool
    wait_seconds: float = 0.0
    trouble: str | None = None
    failed: tuple[FailedSignal, ...] = ()
    counted: bool = True


class ModelProgress:
    """The memory of one model's bursts."""

    def __init__(self, spec: SignalSpec, backoff: Backoff | None = None, suspects: Suspects | None = None) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._backoff = backoff or Backoff()
        self._suspects = suspects or Suspects()
        self._breaker = Breaker()
        self._size = BurstSize(spec.burst_count)
        # The first burst, and the first one after a failed delete, makes sure that signals can be deleted.
        self._rehearse = True
        self._retry_is_due = False
        self._is_full = False

    def avoided(self, now: float) -> list[Key]:
        """Signals that no burst takes at the moment."""
        with self._lock:
            return self._suspects.keys(now)

    def retry_is_due(self) -> None:
        """Signals that were set aside can be tried again."""
        with self._lock:
            self._retry_is_due = True

    def can_set_aside(self, possible: bool) -> None:
        """Whether there is room for more signals that are set aside."""
        with self._lock:
            self._is_full = not possible

    def plan(self, now: float) -> BurstPlan:
        with self._lock:
            retry, self._retry_is_due = self._retry_is_due, False
            return BurstPlan(self._size.limit, tuple(self._suspects.keys(now)), self._rehearse, retry)

    def finished(self, plan: BurstPlan, result: BurstResult, now: float) -> Verdict:
        """Learn from a burst that came to its end, whatever became of its signals."""
        with self._lock:
            if result.is_outage or result.failed_whole or not plan.retry:
                self._size.record(result)
            answered = [one for one in result.failed if not one.outcome.is_unanswered]
            self._suspects.answered([one.key for one in answered])
            if result.sent:
                self._rehearse = False
                self._backoff.succeeded()
            if result.failed_whole:
                # Halved, the next burst is one step nearer to the signal that is to blame.
                return Verdict(more=True)
            if result.is_outage:
                if result.selected == 1 and result.failed:
                    self._suspects.was_alone(result.failed[0].key, now)
                return Verdict(False, self._backoff.failed(), trouble=_trouble(result), failed=tuple(answered))
            self._breaker.record(result)
            if self._breaker.is_open:
                text = f"too much fails at once; nothing is parked until signals are sent again: {_trouble(result)}"
                return Verdict(False, self._backoff.failed(), text, tuple(answered), counted=False)
            if answered and self._is_full:
                text = f"so many signals are set aside that no more can be: {_trouble(result)}"
                return Verdict(False, self._backoff.failed(), text)
        more = plan.retry or result.selected == plan.limit
        return Verdict(more, failed=tuple(answered))

    def interrupted(self, error: Exception) -> Verdict:
        """Learn from a burst that the database, or the burst's own rules, did not let come to its end."""
        text = str(error) if isinstance(error, BurstError) else error_text(error)
        with self._lock:
            self._size.shrink()
            self._rehearse = True
            return Verdict(more=False, wait_seconds=self._backoff.failed(), trouble=text)


def _trouble(result: BurstResult) -> str:
    if result.failed:
        return f"{len(result.failed)} of {result.selected} signals not sent; first: {result.failed[0].outcome}"
    return result.reason
