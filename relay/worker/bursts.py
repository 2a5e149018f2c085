"""One burst of a model: which signals it tries, the send, and the record of those that failed.

Invariant: a signal that failed is in the retry store before the model has its next burst.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from flask import Flask

from signalbus_core import SignalBus
from signalbus_core.lowlevel import (
    UNDELETED,
    BurstLimits,
    BurstResult,
    Choice,
    DueSignal,
    FailedSignal,
    Key,
    Part,
    Proved,
    SignalSpec,
    delete_sent,
    own_session,
    send_burst,
)

from ..runtime import Runtime
from ..telemetry.incidents import single_signals
from .model_state import ModelState
from .plan import BurstDecision, BurstPlan
from .retry_store import Due, RetryStores


@dataclass(frozen=True)
class BurstCallbacks:
    """Who is called while a burst goes on.

    :param on_locked: with the number of the signals that it has locked.
    :param on_progress: whenever it makes progress after that.
    """

    on_locked: Callable[[int], None]
    on_progress: Callable[[], None]


class Bursts:
    """Runs the bursts of all workers.

    :param limits: of the transactions.
    """

    def __init__(
        self, app: Flask, bus: SignalBus, retry_stores: RetryStores, limits: BurstLimits, runtime: Runtime
    ) -> None:
        self._app = app
        self._bus = bus
        self._retry_stores = retry_stores
        self._limits = limits
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger.getChild("worker")

    def due(self, name: str, plan: BurstPlan) -> Due | None:
        """The signals that the burst tries; None when it takes the lowest keys."""
        if plan.proved:
            return Due(tuple(DueSignal(one.key, "", UNDELETED, version=one.version) for one in plan.proved), True)
        if plan.suspect is not None:
            return Due()
        return self._retry_stores[name].take_due(plan.limit, plan.avoid) if plan.retry else None

    def scan(self, state: ModelState, plan: BurstPlan, callbacks: BurstCallbacks) -> BurstResult:
        """An ordinary burst: the lowest keys from the low-water mark on, or new signals only.

        :raises BurstError: it ended early, but some signals may have been sent.
        :raises sqlalchemy.exc.SQLAlchemyError: a database error has ended it.
        """
        if plan.fresh is not None:
            start, part = plan.fresh.start, Part.NEWEST if plan.fresh.start is None else Part.ALL
            choice = self._retry_stores[state.spec.name].choice(plan.avoid)
            return self._send(state.spec, plan, replace(choice, start=start, part=part), callbacks)
        low_water = state.low_water
        scan = low_water.begin(self._clock())
        try:
            choice = self._retry_stores[state.spec.name].choice(plan.avoid)
            result = self._send(state.spec, plan, replace(choice, start=scan.start, ring=state.ring), callbacks)
        except BaseException:
            low_water.give_up(scan)
            raise
        low_water.record_scan(scan, result.lowest[0] if result.lowest else None, result.lock_seconds)
        if result.is_outage:
            low_water.give_up(scan)
        return result

    def try_again(self, spec: SignalSpec, plan: BurstPlan, due: Due, callbacks: BurstCallbacks) -> BurstResult:
        """A burst of signals that are due, or only their delete; raises what :meth:`scan` raises."""
        if plan.suspect is not None:
            return self._send(spec, plan, self._retry_stores[spec.name].retry((plan.suspect,)), callbacks)
        if not due.signals:
            # Another relay has taken them.
            return BurstResult(selected=0)
        if due.is_delete:
            proved = plan.proved or [Proved(one.key, one.version) for one in due.signals]
            result = delete_sent(self._retry_stores.engine(spec.name), spec, proved, limits=self._limits)
            self._log(spec.name, result)
            return result
        return self._send(spec, plan, self._retry_stores[spec.name].retry(due.keys), callbacks)

    def _send(self, spec: SignalSpec, plan: BurstPlan, choice: Choice, callbacks: BurstCallbacks) -> BurstResult:
        with own_session(self._bus.db, self._app) as session:
            result = send_burst(
                session,
                spec,
                limit=plan.limit,
                choice=choice,
                limits=self._limits,
                rehearse=plan.rehearse,
                can_keep_rows=plan.can_keep_rows,
                on_locked=callbacks.on_locked,
                on_progress=callbacks.on_progress,
            )
        self._log(spec.name, result)
        return result

    def record(
        self, state: ModelState, plan: BurstPlan, due: Due | None, result: BurstResult, decision: BurstDecision
    ) -> None:
        """Record which signals failed, and what became of those that were tried again.

        :raises sqlalchemy.exc.SQLAlchemyError: a database error; the burst itself is committed.
        """
        name, due = state.spec.name, due or Due()
        retry_store = self._retry_stores[name]
        if plan.suspect is not None and not result.selected and not self._retry_stores.versions(name, [plan.suspect]):
            state.forget(plan.suspect)
        if decision.failed:
            parked = retry_store.put(decision.failed, decision.evidence, is_retry=not plan.is_scan)
            self._log_failed(name, decision.failed, parked)
        state.mark_recorded(result.undeleted)
        if plan.retry and due.signals:
            retry_store.tried(due, result, [one.key for one in decision.failed])
            # Other signals may be due as well, and need not wait for the next poll.
            state.mark_retry_due()

    def _log_failed(self, name: str, failed: Sequence[FailedSignal], parked: Collection[Key]) -> None:
        """Raise the incident for failed signals, and log those that were parked."""
        first = failed[0]
        logged = [first.key, *(one.key for one in failed if one.key in parked)]
        texts = self._retry_stores.key_texts(name, list(dict.fromkeys(logged)))
        self._events.raised(
            single_signals(name),
            "signals_set_aside",
            f"{len(failed)} failed and wait for {_awaited(failed, parked)}; first: {texts[first.key]}, {_why(first)}",
            name,
        )
        for one in failed:
            if one.key in parked:
                self._logger.warning(
                    "%s: signal %s is parked after it failed too often; it waits for a person: %s",
                    name,
                    texts[one.key],
                    _why(one),
                    extra={"action": "signal_parked", "signal": name, "key": texts[one.key]},
                )

    def _log(self, name: str, result: BurstResult) -> None:
        if not result.selected:
            return
        self._logger.debug(
            "%s: %d of %d signals sent.",
            name,
            result.sent,
            result.selected,
            extra={
                "action": "burst_sent",
                "signal": name,
                "lock_seconds": round(result.lock_seconds, 4),
                "send_seconds": round(result.send_seconds, 4),
                "commit_seconds": round(result.commit_seconds, 4),
            },
        )


def _awaited(failed: Sequence[FailedSignal], parked: Collection[Key]) -> str:
    number = sum(one.key in parked for one in failed)
    both = ["their next try"] * (number < len(failed)) + ["a person"] * (number > 0)
    return " or ".join(both)


def _why(failed: FailedSignal) -> str:
    if failed.outcome.cause == UNDELETED:
        return f"was sent; cannot be deleted: {failed.outcome.reason}"
    return str(failed.outcome)
