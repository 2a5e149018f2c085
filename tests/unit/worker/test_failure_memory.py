"""The memory of failure as a whole: a worker's decisions against a table and a broker that misbehave at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.worker.backoff import Backoff
from relay.worker.model_state import BurstPlan, ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import Due, MemoryRetryStore
from signalbus_core import BurstError, Outcome, OutcomeKind
from signalbus_core.lowlevel import UNDELETED, BurstResult, DueSignal, FailedSignal, Key, Proved, SignalSpec
from tests.support.clock import Clock
from tests.support.fuzzing import FACTOR

UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
INVALID = Outcome(OutcomeKind.INVALID, "no body")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")
KEPT = Outcome(OutcomeKind.ACKED, "a foreign key", cause=UNDELETED)
BURST_COUNT = 8
PARK_AFTER = 3

#: What becomes of a signal: sent, and deleted or kept by the database; refused; at fault; its send method raises.
KINDS = ["good", "kept", "a", "b", "invalid", "raises"]


def highest(_low: float, high: float) -> float:
    return high


def outcome_of(kind: str) -> Outcome:
    if kind in ("a", "b"):
        return Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned", destination=kind)
    return INVALID if kind == "invalid" else RAISED


class FailureMemory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        spec = SignalSpec(
            model=object, name="S", burst_count=BURST_COUNT, bind_key=None, send_one=print, send_many=None
        )
        self.clock = Clock()
        self.progress = ModelState(spec, Backoff(0.2, 30.0, highest), Backoff(1.0, 30.0, highest))
        self.retry_store = MemoryRetryStore(RetryPolicy(PARK_AFTER, highest), self.versions, self.clock)
        self.table: dict[Key, str] = {}
        self.sent: set[Key] = set()
        self.parked: set[Key] = set()
        self.attempts_in_outages = 0
        self.last_key = 0
        self.is_broker_away = self.is_database_away = False

    def versions(self, keys: Any) -> dict[Key, str | None]:
        return {key: "1" for key in keys if key in self.table}

    # What happens around the relay

    @rule(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=20))
    def write(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.last_key += 1
            self.table[self.last_key,] = kind

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0, 700.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def broker_comes_or_goes(self) -> None:
        self.is_broker_away = not self.is_broker_away

    @rule(kind=st.sampled_from(KINDS))
    def mend(self, kind: str) -> None:
        for key, own in self.table.items():
            if own == kind:
                self.table[key] = "good"

    # The turns of a worker

    @rule(number=st.integers(1, 5))
    def work(self, number: int) -> None:
        for _ in range(number):
            self.turn()

    @precondition(lambda self: self.table)
    @rule()
    def work_while_the_database_goes_away_before_the_delete(self) -> None:
        self.is_database_away = True
        self.turn()
        self.is_database_away = False

    def turn(self) -> None:
        now = self.clock.now
        if self.retry_store.has_due():
            self.progress.mark_retry_due()
        plan = self.progress.plan(now)
        due = self.due_of(plan)
        noted_before = self.attempts()
        try:
            result = self.burst(plan, due)
        except BurstError as error:
            self.progress.interrupted(error)
            return
        decision = self.progress.finished(plan, result, now)
        if plan.suspect is not None and not result.selected and plan.suspect not in self.table:
            self.progress.forget(plan.suspect)
        if decision.failed:
            parked = self.retry_store.put(decision.failed, decision.evidence, is_retry=not plan.is_scan)
            assert not (parked and decision.evidence.too_much_fails), "an open breaker parks nothing"
            self.parked |= set(parked)
        self.progress.mark_recorded(result.undeleted)
        if plan.retry and due is not None and due.signals:
            self.retry_store.tried(due, result, [one.key for one in decision.failed])
        if self.is_broker_away and not plan.proved and not (due and due.is_delete):
            assert all(self.attempts().get(key, 0) == number for key, number in noted_before.items())

    def due_of(self, plan: BurstPlan) -> Due | None:
        if plan.proved:
            return Due(tuple(DueSignal(one.key, "", UNDELETED, version=one.version) for one in plan.proved), True)
        if plan.suspect is not None:
            return Due((DueSignal(plan.suspect, "", "outage"),))
        return self.retry_store.take_due(plan.limit, plan.avoid) if plan.retry else None

    def burst(self, plan: BurstPlan, due: Due | None) -> BurstResult:
        if due is None:
            left_out = set(self.retry_store.choice(plan.avoid).exclude)
            keys = [key for key in sorted(self.table) if key not in left_out][: plan.limit]
        else:
            keys = [key for key in due.keys if key in self.table]
        return self.delete(keys) if due is not None and due.is_delete else self.send(keys)

    def send(self, keys: list[Key]) -> BurstResult:
        assert not self.sent & set(keys), "what was proved sent is never sent again"
        if self.is_broker_away:
            failed = tuple(FailedSignal(key, UNKNOWN) for key in keys)
            return BurstResult(len(keys), failed=failed, keys=tuple(keys))
        kinds = {key: self.table[key] for key in keys}
        if len(keys) > 1 and "raises" in kinds.values():
            return BurstResult(len(keys), keys=tuple(keys), error=ValueError("bad"), reason="ValueError: bad")
        arrived = [key for key in keys if kinds[key] in ("good", "kept")]
        self.sent |= set(arrived)
        failed = tuple(FailedSignal(key, outcome_of(kinds[key])) for key in keys if key not in arrived)
        deleted = self.delete(arrived)
        return BurstResult(
            len(keys), deleted.sent, failed, deleted.undeleted, tuple(keys), ValueError("bad") if failed else None
        )

    def delete(self, keys: list[Key]) -> BurstResult:
        if self.is_database_away:
            raise BurstError("away", proved=[Proved(key, "1") for key in keys])
        kept = [key for key in keys if self.table[key] == "kept"]
        for key in set(keys) - set(kept):
            del self.table[key]
        undeleted = tuple(FailedSignal(key, KEPT, "1") for key in kept)
        return BurstResult(len(keys), len(keys) - len(kept), undeleted=undeleted, keys=tuple(keys))

    def attempts(self) -> dict[Key, int]:
        return {key: note.attempts for key, note in self.retry_store._notes.items()}

    # What always holds

    @invariant()
    def what_was_sent_and_is_left_is_never_free_to_be_sent(self) -> None:
        held = {*self.progress.avoided(), *self.retry_store.choice([]).exclude}
        assert self.sent & set(self.table) <= held

    @invariant()
    def what_failed_has_a_next_try_or_is_parked(self) -> None:
        for key, note in self.retry_store._notes.items():
            if note.next_try is None:
                assert key in self.parked
                assert note.cause in ("invalid", "error", UNDELETED)
            else:
                assert note.next_try <= self.clock.now + 600

    def teardown(self) -> None:
        """Once the broker is there, a healthy signal goes out within a bounded number of turns, and bursts grow."""
        self.is_broker_away = False
        self.write(["good"] * 3 * BURST_COUNT)
        fresh = list(self.table)[-3 * BURST_COUNT :]
        bound = 20 * (len(self.table) + BURST_COUNT)
        turns = run_until(self.turn_after_a_while, lambda: not set(fresh) & set(self.table), bound)
        assert turns < bound
        self.mend_all()
        run_until(self.turn_after_a_while, lambda: set(self.table) <= self.parked, bound + 20 * PARK_AFTER)
        assert set(self.table) <= self.parked
        for _ in range(8):
            self.write(["good"] * BURST_COUNT * 2)
            run_until(self.turn_after_a_while, lambda: set(self.table) <= self.parked, bound)
        assert self.progress.plan(self.clock.now).limit == BURST_COUNT

    def mend_all(self) -> None:
        for kind in KINDS:
            self.mend(kind)

    def turn_after_a_while(self) -> None:
        self.clock.now += 31.0
        self.turn()


def run_until(step: Callable[[], None], is_done: Callable[[], bool], bound: int) -> int:
    for number in range(bound):
        if is_done():
            return number
        step()
    return bound


TestFailureMemory = FailureMemory.TestCase
TestFailureMemory.settings = settings(max_examples=30 * FACTOR, stateful_step_count=30, deadline=None)
