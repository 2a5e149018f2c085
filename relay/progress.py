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
from .low_water import LowWater
from .pacing import Backoff
from .suspects import Suspects


@dataclass(frozen=True)
class BurstPlan:
    """What the next burst of a model is to be like.

    :param limit: the largest number of signals in it.
    :param avoid: signals to leave out.
    :param rehearse: make sure first that signals can be deleted.
    :param retry: try signals again that were set aside and whose time has come.
    :param suspect: try this signal alone, to find out whether an outage was its own.
    :param most_bytes: of rows in it, to be asked before they are read; None where that need not be asked.
    """

    limit: int
    avoid: tuple[Key, ...]
    rehearse: bool
    retry: bool = False
    suspect: Key | None = None
    most_bytes: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What follows from a burst.

    :param more: the next burst may follow at once.
    :param wait_seconds: how long to leave the model alone.
    :param trouble: what is wrong with the model as a whole, for people; None when nothing is.
    :param failed: signals to set aside.
    :param counted: whether their attempts count.
    :param recovered: signals were sent, and no trouble of the model is left, as far as can be known.
    """

    more: bool
    wait_seconds: float = 0.0
    trouble: str | None = None
    failed: tuple[FailedSignal, ...] = ()
    counted: bool = True
    recovered: bool = False


class ModelProgress:
    """The memory of one model's bursts.

    :param low_water: the model's low-water mark; without one, every scan begins at the first key.
    """

    def __init__(
        self,
        spec: SignalSpec,
        backoff: Backoff | None = None,
        suspects: Suspects | None = None,
        low_water: LowWater | None = None,
    ) -> None:
        self.spec = spec
        self.low_water = low_water or LowWater(is_kept=False)
        self._lock = threading.Lock()
        self._backoff = backoff or Backoff()
        self._suspects = suspects or Suspects()
        self._breaker = Breaker()
        self._size = BurstSize(spec.burst_count)
        # Of their own: healthy traffic would make retries large again before they are halved down to the one to blame.
        self._retry_size = BurstSize(spec.burst_count)
        # The first burst, and the first one after a failed delete, makes sure that signals can be deleted.
        self._rehearse = True
        self._retry_is_due = False
        self._is_full = False
        self._suspect_was_last = False
        self._flows_again = False

    def avoided(self) -> list[Key]:
        """Suspects; the bursts of other signals leave them out."""
        with self._lock:
            return self._suspects.keys()

    def has_due_suspect(self, now: float) -> bool:
        """Whether a suspect can be tried again."""
        with self._lock:
            return self._suspects.has_due(now)

    def is_gone(self, key: Key) -> None:
        """A signal is not in its table any more."""
        with self._lock:
            self._suspects.answered([key])

    def nothing_is_left(self) -> bool:
        """The model has nothing to send; return whether that ends what was wrong with it."""
        with self._lock:
            is_over = not self._breaker.is_open and not self._suspects.keys()
            if is_over:
                self._backoff.succeeded()
            return is_over

    def flows_again(self) -> bool:
        """Whether the last that is known of signals that were set aside is that some were sent."""
        with self._lock:
            return self._flows_again

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
            # In turns: suspects whose tries take long must not keep the others waiting.
            suspect = None if self._suspect_was_last else self._suspects.take_due(now)
            self._suspect_was_last = suspect is not None
            if suspect is not None:
                return BurstPlan(1, (), self._rehearse, suspect=suspect)
            retry, self._retry_is_due = self._retry_is_due, False
            size = self._retry_size if retry else self._size
            avoid = tuple(self._suspects.keys())
            return BurstPlan(size.limit, avoid, self._rehearse, retry, most_bytes=size.bytes_to_ask)

    def finished(self, plan: BurstPlan, result: BurstResult, now: float) -> Verdict:
        """Learn from a burst that came to its end, whatever became of its signals."""
        with self._lock:
            answered = tuple(one for one in result.failed if not one.outcome.is_unanswered)
            self._learn(plan, result, [one.key for one in answered])
            if result.failed_whole:
                # Halved, the next burst is one step nearer to the signal that is to blame.
                return Verdict(more=True)
            # Those that are tried again have their place; a new next try lets others have their turn.
            noted = answered if plan.retry or not self._is_full else ()
            if result.is_outage:
                return self._outage(plan, result, noted, now)
            self._breaker.record(result, is_retry=plan.retry)
            if self._breaker.is_open:
                text = f"too much fails at once; nothing is parked until signals are sent again: {_trouble(result)}"
                return Verdict(False, self._backoff.failed(), text, noted, counted=False)
            if len(noted) < len(answered):
                text = f"so many signals are set aside that no more can be: {_trouble(result)}"
                return Verdict(False, self._backoff.failed(), text)
            if result.selected and not result.sent and not result.failed:
                # The send method told nothing of its signals: at once they would only be sent once more.
                return Verdict(False, self._backoff.failed(), _trouble(result))
            is_alone = plan.retry or plan.suspect is not None
            more = is_alone or result.selected == plan.limit or result.is_cut or self._suspects.has_due(now)
            return Verdict(more, failed=noted, recovered=result.sent > 0 and self._is_well(plan, result))

    def _is_well(self, plan: BurstPlan, result: BurstResult) -> bool:
        # While bursts still grow after an outage, the signal to blame may be among those that they have not reached.
        has_grown = self._size.is_whole or (result.selected < plan.limit and not result.is_cut)
        return has_grown and not self._suspects.keys()

    def _learn(self, plan: BurstPlan, result: BurstResult, answered: list[Key]) -> None:
        self._suspects.answered(answered)
        if plan.suspect is None:
            (self._retry_size if plan.retry else self._size).record(result)
        if result.sent:
            self._rehearse = False
            self._backoff.succeeded()
            if plan.suspect is not None:
                self._suspects.answered([plan.suspect])
        if answered:
            self._flows_again = False
        elif result.sent and plan.retry:
            self._flows_again = True

    def _outage(self, plan: BurstPlan, result: BurstResult, noted: tuple[FailedSignal, ...], now: float) -> Verdict:
        if result.selected == 1 and result.failed:
            self._suspects.was_alone(result.failed[0].key, now)
        if plan.suspect is not None and not self._backoff.failures:
            # Others are sent meanwhile: the outage is the suspect's own, and holds up nobody.
            return Verdict(more=True, trouble=_trouble(result))
        self._size.shrink()
        self._retry_size.shrink()
        return Verdict(False, self._backoff.failed(), trouble=_trouble(result), failed=noted)

    def interrupted(self, error: Exception) -> Verdict:
        """Learn from a burst that the database, or the burst's own rules, did not let come to its end."""
        text = str(error) if isinstance(error, BurstError) else error_text(error)
        with self._lock:
            self._size.shrink()
            self._retry_size.shrink()
            self._rehearse = True
            return Verdict(more=False, wait_seconds=self._backoff.failed(), trouble=text)


def _trouble(result: BurstResult) -> str:
    if result.failed:
        return f"{len(result.failed)} of {result.selected} signals not sent; first: {result.failed[0].outcome}"
    return result.reason
