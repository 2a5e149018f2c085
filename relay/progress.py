"""What the bursts of one model have shown so far, and what follows from it.

An outage (no answer from the broker, a database error) costs no signal an attempt: the model waits, and goes on with a
single signal. A signal that failed for its own sake waits alone, while the others of its model go on. Pure: the time is
passed in. Workers and the probe share it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from signalbus_core import BurstError, BurstResult, BurstSize, OutcomeKind, SignalSpec, failed_whole, is_outage

from .pacing import Backoff
from .parking import Key, Parking


@dataclass(frozen=True)
class BurstPlan:
    """What the next burst of a model is to be like; the arguments of :func:`signalbus_core.send_burst`."""

    limit: int
    exclude: tuple[Key, ...]
    rehearse: bool


@dataclass(frozen=True)
class Verdict:
    """What follows from a burst.

    :param more: the next burst may follow at once.
    :param wait_seconds: how long to leave the model alone.
    :param trouble: what is wrong with the model, for people; None when nothing is.
    """

    more: bool
    wait_seconds: float = 0.0
    trouble: str | None = None


class ModelProgress:
    """The memory of one model's bursts."""

    def __init__(self, spec: SignalSpec, backoff: Backoff | None = None, parking: Parking | None = None) -> None:
        self.spec = spec
        self._lock = threading.Lock()
        self._parking = parking or Parking()
        self._backoff = backoff or Backoff()
        self._size = BurstSize(spec.burst_count)
        # The first burst, and the first one after a failed delete, makes sure that signals can be deleted.
        self._rehearse = True

    def waiting_keys(self, now: float) -> list[Key]:
        """The keys of the signals that wait for another try."""
        with self._lock:
            return self._parking.waiting_keys(now)

    def plan(self, now: float) -> BurstPlan:
        with self._lock:
            return BurstPlan(self._size.limit, tuple(self._parking.waiting_keys(now)), self._rehearse)

    def finished(self, plan: BurstPlan, result: BurstResult, now: float) -> Verdict:
        """Learn from a burst that came to its end, whatever became of its signals."""
        trouble = _trouble(result)
        with self._lock:
            self._size.record(result)
            if result.sent:
                self._rehearse = False
                self._backoff.succeeded()
            for failed in result.failed:
                if failed.outcome.cause != OutcomeKind.UNKNOWN.value:
                    self._parking.failed(failed.key, failed.outcome, now)
            if failed_whole(result):
                # Halved, the next burst is one step nearer to the signal that is to blame.
                return Verdict(more=True, trouble=trouble)
            if is_outage(result) or _sender_fails(result) or self._parking.is_full:
                return Verdict(more=False, wait_seconds=self._backoff.failed(), trouble=trouble)
        return Verdict(more=result.selected == plan.limit, trouble=trouble)

    def interrupted(self, error: Exception) -> Verdict:
        """Learn from a burst that the database, or the burst's own rules, did not let come to its end."""
        text = str(error) if isinstance(error, BurstError) else f"{type(error).__name__}: {_first_line(error)}"
        with self._lock:
            self._size.shrink()
            self._rehearse = True
            return Verdict(more=False, wait_seconds=self._backoff.failed(), trouble=text)


def _sender_fails(result: BurstResult) -> bool:
    """Whether all that a burst brought is an exception from the application's code."""
    return not result.sent and any(failed.outcome.cause == "error" for failed in result.failed)


def _trouble(result: BurstResult) -> str | None:
    if result.failed:
        return f"{len(result.failed)} signals not sent; first: {result.failed[0].outcome}"
    if result.error is not None:
        return f"{type(result.error).__name__}: {_first_line(result.error)}"
    return None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
