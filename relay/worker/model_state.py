"""The state of one model: what its bursts have shown so far, and what the next burst is.

- An *outage* (no answer from the broker, a database error) costs no signal an attempt: the model waits, and goes on
  with a single signal. One that was alone in an outage is a suspect: bursts of others leave it out, in case it is to
  blame, and it is tried again alone until there is an answer for it.
- A signal that *failed for its own sake*, or its destination's, is kept in the retry store, and the others go on.
- A signal that was *proved sent* and is still in its table is deleted before anything else, and never sent again. Where
  that does not go at once, it is tried between the bursts of others.

``docs/explanation/failures.md`` has it as a table. Pure: the time is passed in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from signalbus_core import BurstError
from signalbus_core.lowlevel import (
    BurstResult,
    BurstSize,
    FailedSignal,
    Proved,
    Ring,
    SignalRef,
    SignalSpec,
    error_text,
    refs_of,
)

from .backoff import Backoff
from .circuit_breaker import CircuitBreaker
from .low_water import LowWater
from .plan import SUSPECT, BurstDecision, BurstPlan, each_alone, problem_of
from .recovery.fresh_first import FreshFirst
from .recovery.rate import RateLimit
from .retry_policy import Evidence
from .retry_store import Note, Notes, ProvedSignals

#: A suspect waits at most so many seconds for its next try. Longer: a suspect that is not at fault is sent later.
LONGEST_SUSPICION_SECONDS = 30.0

#: The largest number of suspects. Larger: more parameters in each of the model's statements.
MOST_SUSPECTS = 100

#: So often it is made sure again that signals can be deleted. Longer: a foreign key or a trigger that is made meanwhile
#: is known later; until then a signal that it keeps may be sent by several workers.
REHEARSE_EVERY_SECONDS = 60.0


class ModelState:
    """The state of one model.

    :param low_water: the model's low-water mark; without one, every scan begins at the first key.
    :param fresh: which bursts take new signals before those of a backlog; without it, none does.
    """

    def __init__(
        self,
        spec: SignalSpec,
        backoff: Backoff | None = None,
        suspicion: Backoff | None = None,
        low_water: LowWater | None = None,
        fresh: FreshFirst | None = None,
    ) -> None:
        self.spec = spec
        self.low_water = low_water or LowWater(is_kept=False)
        #: With which key a burst begins, for a model with an order.
        self.ring = None if spec.order is None else Ring()
        # A method that has it calls others that take it.
        self._lock = threading.RLock()
        self._rate = RateLimit(spec.max_rate)
        self._fresh = fresh or FreshFirst()
        self._backoff = backoff or Backoff()
        self._suspicion = suspicion or Backoff(1.0, LONGEST_SUSPICION_SECONDS)
        self._suspects = Notes(MOST_SUSPECTS)
        self._proved = ProvedSignals(spec, self._suspicion.wait_seconds)
        self._breaker = CircuitBreaker()
        self._size = BurstSize(spec.burst_count)
        # The first burst, the first one after a failed delete, and one a minute make sure that signals can be deleted.
        self._rehearse_from = float("-inf")
        self._can_keep_rows = False
        self._retry_is_due = False
        self._is_full = False
        self._turn = 0
        self._flows_again = False

    def avoided(self) -> list[SignalRef]:
        """Suspects, and signals that were proved sent; the bursts of other signals leave them out."""
        with self._lock:
            keys = [note.key for _, note in self._suspects.items() if note.key is not None]
            return list(dict.fromkeys([*self._suspects.keys(), *keys, *self._proved.refs()]))

    def has_due_suspect(self, now: float) -> bool:
        """Whether one of these signals is due."""
        with self._lock:
            return self._proved.are_due(now) or bool(self._suspects.due(now))

    def forget(self, suspect: SignalRef) -> None:
        """A signal is not in its table any more."""
        with self._lock:
            self._suspects.forget([suspect])

    def mark_recorded(self, signals: Sequence[FailedSignal]) -> None:
        """The retry store records that these signals were sent, so bursts leave them out."""
        with self._lock:
            for one in signals:
                self._proved.forget(one)

    def mark_empty(self) -> bool:
        """The model has nothing to send; return whether that resolves its incident."""
        with self._lock:
            is_over = not self._breaker.is_open and not self.avoided()
            if is_over:
                self._backoff.succeeded()
            return is_over

    def flows_again(self) -> bool:
        """Whether the last retry of waiting signals succeeded, and no signal has failed since."""
        with self._lock:
            return self._flows_again

    def mark_retry_due(self) -> None:
        """The next try of some waiting signals is due."""
        with self._lock:
            self._retry_is_due = True

    def set_has_room(self, possible: bool) -> None:
        """Record whether the retry store has room for more signals."""
        with self._lock:
            self._is_full = not possible

    def plan(self, now: float) -> BurstPlan:
        with self._lock:
            plan = self._plan(now)
            # What is only deleted was sent before.
            return plan if plan.proved else replace(plan, limit=self._rate.take(plan.limit, now))

    def _plan(self, now: float) -> BurstPlan:
        avoid = tuple(self.avoided())
        if proved := self._proved.claim(now):
            return replace(self._ordinary(now), avoid=avoid, proved=proved)
        # In turns: tries that take long must keep neither each other nor new signals waiting.
        turns = (self._suspect_turn, self._retry_turn)
        while self._turn < len(turns):
            plan = turns[self._turn](avoid, now)
            self._turn += 1
            if plan is not None:
                return plan
        self._turn = 0
        scan = self._fresh.next_scan()
        plan = self._ordinary(now)
        return replace(plan, avoid=avoid, fresh=scan, limit=self._fresh.limit(plan.limit, scan))

    def _ordinary(self, now: float) -> BurstPlan:
        rehearse = now >= self._rehearse_from
        return BurstPlan(
            self._size.limit, (), rehearse, can_keep_rows=self._can_keep_rows, known_failures=self._backoff.failures
        )

    def _suspect_turn(self, _avoid: tuple[SignalRef, ...], now: float) -> BurstPlan | None:
        due = self._suspects.due(now)
        if not due:
            return None
        key, note = due[0]
        # Postponed at once, so that no second worker takes it meanwhile.
        self._suspects.postpone([key], now + self._suspicion.wait_seconds(note.attempts))
        return replace(self._ordinary(now), limit=1, suspect=key)

    def _retry_turn(self, avoid: tuple[SignalRef, ...], now: float) -> BurstPlan | None:
        if not self._retry_is_due:
            return None
        self._retry_is_due = False
        return replace(self._ordinary(now), avoid=avoid, retry=True)

    def finished(self, plan: BurstPlan, result: BurstResult, now: float) -> BurstDecision:
        """Learn from a burst that ended, whatever the outcomes of its signals."""
        decision = replace(self._finished(plan, result, now), is_scan=plan.is_scan)
        with self._lock:
            if not plan.proved:
                self._rate.give_back(plan.limit - result.selected)
            wait_seconds = max(decision.wait_seconds, self._rate.wait_seconds(now))
            return replace(decision, more=decision.more and not wait_seconds, wait_seconds=wait_seconds)

    def _finished(self, plan: BurstPlan, result: BurstResult, now: float) -> BurstDecision:
        with self._lock:
            answered = tuple(one for one in result.failed if not one.outcome.is_unanswered)
            self._learn(plan, result, [ref for one in answered for ref in refs_of(self.spec, one)], now)
            if plan.proved:
                return BurstDecision(more=True, failed=result.undeleted)
            if result.failed_whole:
                # The next burst has half the size, and comes nearer to the signal at fault. After a retry each is tried
                # alone; a failure of all together counts against none.
                failed = each_alone(result) if plan.retry else result.undeleted
                return BurstDecision(more=True, failed=failed, evidence=Evidence(too_much_fails=True))
            # Retried signals are in the store already, even a full one; a later next try lets others have a turn.
            recorded = answered if not plan.is_scan or not self._is_full else ()
            evidence = self._breaker.evidence(now)
            if result.is_outage:
                return self._outage(plan, result, (*recorded, *result.undeleted), now)
            if self._breaker.is_open:
                text = f"too much fails at once; nothing is parked until signals are sent again: {problem_of(result)}"
                return BurstDecision(False, self._backoff.failed(), text, (*recorded, *result.undeleted), evidence)
            if len(recorded) < len(answered):
                text = f"so many signals are set aside that no more can be: {problem_of(result)}"
                return BurstDecision(False, self._backoff.failed(), text, result.undeleted, evidence)
            if result.selected and not result.sent and not result.failed and not result.undeleted:
                # The send method reported nothing about its signals: without a wait they would be sent again at once.
                return BurstDecision(False, self._backoff.failed(), problem_of(result))
            # A burst that ended early has left signals, which are not locked any more.
            has_left = result.selected == plan.limit or result.is_cut or (result.sent > 0 and result.has_unmentioned)
            self._record_scan(plan, result, now, has_left=has_left)
            has_more = has_left or self._retry_is_due or self.has_due_suspect(now)
            more = not plan.is_scan or plan.fresh is not None or has_more
            recovered = result.sent > 0 and self._is_well(plan, result)
            return BurstDecision(more, failed=(*recorded, *result.undeleted), evidence=evidence, recovered=recovered)

    def _record_scan(self, plan: BurstPlan, result: BurstResult, now: float, *, has_left: bool) -> None:
        if plan.fresh is not None:
            self._fresh.scanned(plan.fresh, result.lowest[0] if result.lowest else None, now)
        elif plan.is_scan:
            seconds = result.lock_seconds + result.send_seconds + result.commit_seconds
            self._fresh.sent(result.sent, seconds, has_more=has_left)

    def _is_well(self, plan: BurstPlan, result: BurstResult) -> bool:
        # While bursts still grow after an outage, they may not have reached the signal at fault.
        has_grown = self._size.is_whole or (result.selected < plan.limit and not result.is_cut)
        return has_grown and not self.avoided()

    def _learn(self, plan: BurstPlan, result: BurstResult, answered: list[SignalRef], now: float) -> None:
        self._suspects.forget(answered)
        self._breaker.record(result, now, is_retry=not plan.is_scan)
        if plan.is_scan:
            # Retries would enlarge the burst size before it is halved down to the signal at fault.
            self._size.record(result)
        for proved in plan.proved:
            self._proved.forget(proved)
        if result.sent or result.undeleted:
            if plan.rehearse and not plan.proved:
                self._rehearse_from = now + REHEARSE_EVERY_SECONDS
            self._backoff.succeeded()
            if plan.suspect is not None:
                self._suspects.forget([plan.suspect])
        if result.undeleted:
            self._rehearse_from = float("-inf")
        if result.can_keep_rows is not None:
            self._can_keep_rows = result.can_keep_rows
        # Until it is recorded elsewhere: nobody else may send it.
        self._prove(one.proved for one in result.undeleted)
        if answered:
            self._flows_again = False
        elif result.sent and plan.retry:
            self._flows_again = True

    def _prove(self, proved: Iterable[Proved]) -> None:
        for one in proved:
            self._suspects.forget(refs_of(self.spec, one))
            self._proved.add(one)

    def _outage(
        self, plan: BurstPlan, result: BurstResult, recorded: tuple[FailedSignal, ...], now: float
    ) -> BurstDecision:
        evidence = self._breaker.evidence(now)
        if result.selected == 1 and result.failed:
            self._suspect(result.failed[0], now)
        if plan.suspect is not None and not self._backoff.failures:
            # Others are sent meanwhile: the suspect alone causes the outage, and the model need not wait.
            return BurstDecision(True, 0.0, problem_of(result), recorded, evidence)
        self._size.shrink()
        return BurstDecision(False, self._outage_wait(plan), problem_of(result), recorded, evidence)

    def _outage_wait(self, plan: BurstPlan | None) -> float:
        """How long to wait after a failure: one outage fails the bursts of several workers, and counts once."""
        if plan is not None and plan.known_failures is not None and plan.known_failures < self._backoff.failures:
            return self._backoff.wait_seconds(self._backoff.failures)
        return self._backoff.failed()

    def _suspect(self, failed: FailedSignal, now: float) -> None:
        *_, ref = refs_of(self.spec, failed)
        before = self._suspects.get(ref)
        times = before.attempts + 1 if before else 1
        note = Note(now + self._suspicion.wait_seconds(times), SUSPECT, times, key=failed.key)
        self._suspects.write(ref, note)

    def interrupted(self, error: Exception, plan: BurstPlan | None = None) -> BurstDecision:
        """Learn from a burst that a database error or a :class:`BurstError` ended early."""
        text = str(error) if isinstance(error, BurstError) else error_text(error)
        with self._lock:
            if isinstance(error, BurstError):
                self._prove(error.proved)
            self._size.shrink()
            self._rehearse_from = float("-inf")
            return BurstDecision(more=False, wait_seconds=self._outage_wait(plan), problem=text)
