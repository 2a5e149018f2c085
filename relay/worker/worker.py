"""A worker: one thread that takes a model, runs a burst of it, tells what came of it, and gives the model back.

Invariant: while the broker or the database is away it holds no row locks. Between bursts it keeps its broker connection
alive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import BurstError
from signalbus_core.lowlevel import error_text, is_lost

from ..runtime import Runtime
from ..scheduler import Scheduler
from .backoff import Backoff
from .broker_connections import BrokerConnections
from .bursts import BurstCallbacks, Bursts
from .model_state import ModelState
from .plan import BurstDecision

#: The longest wait of a worker between two calls of ``Events.progressed``. Longer: its connection may miss an AMQP
#: heartbeat.
LONGEST_WAIT_SECONDS = 1.0

#: Progress within a burst is reported at most once in so many seconds.
TELL_EVERY_SECONDS = 1.0


class Worker:
    """Sends bursts, one after the other, until the stop event is set.

    :param name: of the thread, for logs and health.
    :param states: the models by name.
    :param broker: the worker's own connections to the broker.
    :param retires: called between two bursts; the worker ends when it returns True.
    """

    def __init__(
        self,
        name: str,
        states: Mapping[str, ModelState],
        bursts: Bursts,
        scheduler: Scheduler,
        broker: BrokerConnections,
        runtime: Runtime,
        retires: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self._states = states
        self._bursts = bursts
        self._scheduler = scheduler
        self._broker = broker
        self._servers = runtime.servers
        self._events = runtime.events
        self._stop = runtime.stop
        self._clock = runtime.clock
        self._logger = runtime.logger.getChild("worker")
        self._retires = retires
        self._told_at = float("-inf")
        #: Whether it has ended because it was not needed any more.
        self.has_retired = False

    def run(self) -> None:
        """The thread's main function."""
        backoff = Backoff()
        try:
            while not self._stop.is_set():
                if self._retires():
                    self.has_retired = True
                    return
                try:
                    self.run_once()
                except BaseException:
                    # No known error arrives here. The thread goes on; signals stay in their tables meanwhile.
                    self._logger.exception(
                        "%s: unexpected error; it goes on.", self.name, extra={"action": "worker_error"}
                    )
                    self._events.worker_changed(self.name, "backing off")
                    self._stop.wait(backoff.failed())
                else:
                    backoff.succeeded()
        finally:
            self._events.worker_changed(self.name, "stopped")
            self._broker.close()
            if self.has_retired:
                self._events.worker_retired(self.name)

    def run_once(self) -> None:
        """Wait for a model with work, and send one burst of it."""
        self._events.progressed(self.name)
        if not self._broker.maintain():
            self._events.worker_changed(self.name, "waiting for the broker")
            self._broker.wait(LONGEST_WAIT_SECONDS)
            return
        self._events.worker_changed(self.name, "idle")
        name = self._scheduler.take(min(self._broker.pump_every_seconds, LONGEST_WAIT_SECONDS), self.name)
        if name is None:
            return
        state, began_at = self._states[name], self._clock()
        decision, sent = BurstDecision(more=False, wait_seconds=LONGEST_WAIT_SECONDS), False
        try:
            decision, sent = self._send_burst(state)
        finally:
            again_seconds = None
            if self._scheduler.is_rung(name, self.name):
                again_seconds = state.low_water.schedule_full_scan(began_at, self._clock(), found=sent)
            self._scheduler.give_back(
                name,
                more=decision.more,
                wait_seconds=decision.wait_seconds,
                sent=sent,
                again_seconds=again_seconds,
                worker=self.name,
            )

    def _send_burst(self, state: ModelState) -> tuple[BurstDecision, bool]:
        """One burst; return what follows from it, and whether signals were sent."""
        name = state.spec.name
        plan = state.plan(self._clock())
        self._events.worker_changed(self.name, "locking", name)
        try:
            due = self._bursts.due(name, plan)
            callbacks = self._callbacks(name)
            if due is None:
                result = self._bursts.scan(state, plan, callbacks)
            else:
                result = self._bursts.try_again(state.spec, plan, due, callbacks)
        except Exception as error:
            decision = state.interrupted(error, plan)
            self._logger.debug("%s: its burst was interrupted.", name, exc_info=True)
            cause = (error.__cause__ or error) if isinstance(error, BurstError) else error
            if is_lost(cause):
                self._servers.suspect(state.spec.bind_key, error_text(cause))
            self._events.burst_interrupted(name, decision, error.sent if isinstance(error, BurstError) else 0)
            return decision, False
        self._scheduler.found_scheduled(name, result.seconds_until_next)
        decision = state.finished(plan, result, self._clock())
        try:
            self._bursts.record(state, plan, due, result, decision)
        except SQLAlchemyError as error:
            decision = state.interrupted(error, plan)
        finally:
            # Whatever became of the records, the burst is committed.
            self._events.burst_ended(name, result, decision)
        return decision, result.sent > 0

    def _callbacks(self, name: str) -> BurstCallbacks:
        return BurstCallbacks(partial(self._locked, name), partial(self._record_progress, name))

    def _locked(self, name: str, signals: int) -> None:
        self._events.worker_changed(self.name, "sending", name, signals)
        self._told_at = float("-inf")
        self._record_progress(name)

    def _record_progress(self, name: str) -> None:
        """A burst makes progress: its thread does not count as stuck, however long the burst takes."""
        self._broker.tell_blocked()
        now = self._clock()
        if now - self._told_at >= TELL_EVERY_SECONDS:
            self._told_at = now
            self._events.progressed(self.name)
            self._scheduler.record_progress(name, self.name)
