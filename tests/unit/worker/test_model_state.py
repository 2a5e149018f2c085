"""What follows from a burst: outages, failures of single signals, halving."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from relay.worker.backoff import Backoff
from relay.worker.model_state import MOST_SUSPECTS, ModelState
from relay.worker.retry_policy import History
from signalbus_core import BurstError, Outcome, OutcomeKind, PartialDeliveryError
from signalbus_core.lowlevel import BurstResult, FailedSignal, Proved, SignalSpec

UNKNOWN = Outcome(OutcomeKind.UNKNOWN, "no answer")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
CLOSED = Outcome(OutcomeKind.UNKNOWN, "501 FRAME_ERROR", cause="closed")
UNDELETED = Outcome(OutcomeKind.ACKED, "a foreign key", cause="undeleted")
RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")


def highest(_low: float, high: float) -> float:
    return high


@pytest.fixture
def progress() -> ModelState:
    spec = SignalSpec(model=object, name="S", burst_count=8, bind_key=None, send_one=print, send_many=None)
    return ModelState(spec, Backoff(0.2, 30.0, highest), Backoff(1.0, 30.0, highest))


def result(
    selected: int,
    sent: int = 0,
    *failed: tuple[Any, Outcome],
    error: Exception | None = None,
    seconds: float = 0.0,
) -> BurstResult:
    return BurstResult(
        selected=selected,
        sent=sent,
        failed=tuple(FailedSignal((key,), outcome) for key, outcome in failed),
        error=error,
        send_seconds=seconds,
    )


def test_a_full_burst_is_followed_at_once(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
    assert decision.more
    assert decision.wait_seconds == 0.0
    assert decision.problem is None


def test_a_burst_that_was_not_full_ends_the_turn(progress: ModelState) -> None:
    assert not progress.finished(progress.plan(0.0), result(7, 7), now=0.0).more


def test_a_burst_that_had_no_time_for_some_is_followed_at_once_by_a_smaller_one(progress: ModelState) -> None:
    assert progress.finished(progress.plan(0.0), result(7, 3, seconds=11.0), now=0.0).more
    assert progress.plan(0.0).limit == 3


def test_outage_waits_costs_no_attempt_and_tries_one_signal(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(2, 0, (1, UNKNOWN), (2, UNKNOWN)), now=0.0)
    assert not decision.more
    assert decision.wait_seconds > 0
    assert decision.failed == ()
    assert progress.plan(0.0).limit == 1


def test_outages_wait_longer_each_time_until_something_is_sent(progress: ModelState) -> None:
    outage = result(1, 0, (1, UNKNOWN))
    waits = [progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds for _ in range(3)]
    assert waits == [0.4, 0.8, 1.6]
    progress.finished(progress.plan(0.0), result(1, 1), now=0.0)
    assert progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds == 0.4


def test_after_an_outage_bursts_grow_back_to_the_burst_count(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    limits = []
    for _ in range(5):
        plan = progress.plan(0.0)
        limits.append(plan.limit)
        progress.finished(plan, result(plan.limit, plan.limit), now=0.0)
    assert limits == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("outcome", [REFUSED, INVALID])
def test_signal_failed_alone_waits_while_model_goes_on(progress: ModelState, outcome: Outcome) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, 7, (3, outcome)), now=0.0)
    assert decision.more
    assert decision.wait_seconds == 0.0
    assert decision.problem is None
    assert [(failed.key, failed.outcome) for failed in decision.failed] == [((3,), outcome)]
    assert not decision.evidence.too_much_fails


def test_in_outage_only_answered_signals_are_set_aside(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, 5, (3, REFUSED), (4, UNKNOWN), (5, UNKNOWN)), now=0.0)
    assert [failed.key for failed in decision.failed] == [(3,)]
    assert decision.wait_seconds > 0


def test_burst_that_failed_as_whole_is_halved_down_to_one_signal(progress: ModelState) -> None:
    limits = []
    for _ in range(4):
        plan = progress.plan(0.0)
        limits.append(plan.limit)
        if plan.limit > 1:
            decision = progress.finished(plan, result(plan.limit, error=ValueError("bad")), now=0.0)
            assert decision.more
            assert decision.failed == ()
    assert limits == [8, 4, 2, 1]

    decision = progress.finished(progress.plan(0.0), result(1, 0, (5, RAISED), error=ValueError("bad")), now=0.0)

    assert [failed.key for failed in decision.failed] == [(5,)]


def test_a_burst_whose_connection_the_broker_closed_is_halved_and_sets_nothing_aside(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, 3, (4, CLOSED), (5, CLOSED)), now=0.0)
    assert decision.more
    assert decision.failed == ()
    assert progress.plan(0.0).limit == 4


def test_a_burst_that_took_long_is_halved(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(8, 8, seconds=11.0), now=0.0)
    assert progress.plan(0.0).limit == 4
    progress.finished(progress.plan(0.0), result(4, 4, seconds=6.0), now=0.0)
    assert progress.plan(0.0).limit == 4
    progress.finished(progress.plan(0.0), result(4, 4, seconds=4.0), now=0.0)
    assert progress.plan(0.0).limit == 8


def test_an_exception_that_tells_of_an_outage_is_one(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, error=ConnectionRefusedError("broker")), now=0.0)
    assert decision.wait_seconds > 0
    assert not decision.more
    assert progress.plan(0.0).limit == 1


def test_signal_that_is_alone_in_outage_is_avoided_by_next_burst(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    assert progress.plan(0.0).avoid == ((1,),)
    assert progress.avoided() == [(1,)]


def test_a_suspect_is_tried_again_alone_and_in_turns_with_others(progress: ModelState) -> None:
    for key in (1, 2):
        progress.finished(progress.plan(0.0), result(1, 0, (key, UNKNOWN)), now=0.0)
    assert progress.has_due_suspect(2.0)
    plans = [progress.plan(2.0) for _ in range(4)]
    assert [plan.suspect for plan in plans] == [(1,), None, (2,), None]
    assert plans[0].limit == 1
    assert plans[1].avoid == ((1,), (2,))


def test_outage_of_suspect_holds_up_nobody_while_others_are_sent(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    for now in (2.0, 6.0, 14.0):
        sent = progress.finished(progress.plan(now - 0.1), result(8, 8), now)
        assert sent.problem is None
        assert not sent.recovered, "a suspicion is left"
        size = progress.plan(now - 0.1).limit
        plan = progress.plan(now)
        assert plan.suspect == (1,)
        decision = progress.finished(plan, result(1, 0, (1, UNKNOWN)), now)
        assert decision.problem is not None
        assert (decision.more, decision.wait_seconds) == (True, 0.0)
        assert progress.plan(now).limit == size


def test_outage_of_suspect_waits_like_any_other(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    decision = progress.finished(progress.plan(2.0), result(1, 0, (1, UNKNOWN)), now=2.0)
    assert decision.wait_seconds > 0


@pytest.mark.parametrize("answer", [(), ((1, REFUSED),)], ids=["sent", "refused"])
def test_a_suspect_that_is_answered_for_is_none_any_more(progress: ModelState, answer: tuple[Any, ...]) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    assert not progress.mark_empty()
    progress.finished(progress.plan(2.0), result(1, 1 - len(answer), *answer), now=2.0)
    assert progress.avoided() == []
    assert progress.mark_empty()


def test_a_model_has_recovered_when_bursts_have_grown_back_or_nothing_is_left(progress: ModelState) -> None:
    outage = result(8, 0, *[(n, UNKNOWN) for n in range(8)])
    progress.finished(progress.plan(0.0), outage, now=0.0)
    recovered = [progress.finished(progress.plan(0.0), result(n, n), now=0.0).recovered for n in (1, 2, 4, 8)]
    assert recovered == [False, False, True, True]
    progress.finished(progress.plan(0.0), outage, now=0.0)
    progress.finished(progress.plan(0.0), result(1, 1), now=0.0)
    assert progress.finished(progress.plan(0.0), result(1, 1), now=0.0).recovered, "there were no two"


def test_a_suspect_that_is_gone_is_none_any_more(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    progress.forget((1,))
    assert progress.avoided() == []


def test_a_model_whose_signals_all_fail_is_not_well_because_nothing_is_left_to_try(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(8, 0, *[(n, INVALID) for n in range(8)]), now=0.0)
    assert not progress.mark_empty()


def test_emptied_model_waits_briefly_after_each_outage(progress: ModelState) -> None:
    outage = result(2, 0, (1, UNKNOWN), (2, UNKNOWN))
    first = progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds
    progress.finished(progress.plan(0.0), outage, now=0.0)
    assert progress.mark_empty()
    assert progress.finished(progress.plan(0.0), outage, now=0.0).wait_seconds == first


def test_too_many_failures_at_once_back_off_and_do_not_count(progress: ModelState) -> None:
    decision = progress.finished(progress.plan(0.0), result(8, 1, *[(n, INVALID) for n in range(7)]), now=0.0)
    assert decision.wait_seconds > 0
    assert decision.evidence.too_much_fails
    assert len(decision.failed) == 7
    assert "too much fails at once" in (decision.problem or "")

    decision = progress.finished(progress.plan(0.0), result(8, 7, (9, INVALID)), now=0.0)
    assert not decision.evidence.too_much_fails


def test_signals_whose_time_has_come_are_tried_once_and_ordinary_bursts_follow(progress: ModelState) -> None:
    progress.mark_retry_due()
    plan = progress.plan(0.0)
    assert plan.retry
    decision = progress.finished(plan, result(2, 1, (1, REFUSED)), now=0.0)
    assert decision.more
    assert not progress.plan(0.0).retry


def test_tries_of_signals_set_aside_do_not_change_size_of_bursts(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    progress.mark_retry_due()
    progress.finished(progress.plan(0.0), result(1, 1), now=0.0)
    assert progress.plan(0.0).limit == 1


def test_when_no_more_can_be_set_aside_model_waits_as_a_whole(progress: ModelState) -> None:
    progress.set_has_room(False)
    decision = progress.finished(progress.plan(0.0), result(8, 7, (3, REFUSED)), now=0.0)
    assert decision.wait_seconds > 0
    assert decision.failed == ()
    assert "no more can be" in (decision.problem or "")


@pytest.mark.parametrize("other", [UNKNOWN, INVALID], ids=["outage", "too much fails"])
def test_when_store_is_full_none_is_set_aside(progress: ModelState, other: Outcome) -> None:
    progress.set_has_room(False)
    failures = [(n, other) for n in range(7)]
    assert progress.finished(progress.plan(0.0), result(8, 0, (8, REFUSED), *failures), now=0.0).failed == ()


def test_when_store_is_full_failed_retries_are_still_noted(progress: ModelState) -> None:
    progress.set_has_room(False)
    progress.mark_retry_due()
    decision = progress.finished(progress.plan(0.0), result(1, 0, (1, REFUSED)), now=0.0)
    assert [failed.key for failed in decision.failed] == [(1,)]
    assert decision.wait_seconds == 0.0


def test_retries_that_fail_as_a_whole_are_each_tried_alone_and_held_against_none(progress: ModelState) -> None:
    progress.mark_retry_due()
    keys = ((1,), (2,), (3,))
    whole = BurstResult(selected=3, keys=keys, error=ValueError("bad"), reason="ValueError: bad")
    decision = progress.finished(progress.plan(0.0), whole, now=0.0)
    assert [(one.key, str(one.outcome)) for one in decision.failed] == [(key, "error: ValueError: bad") for key in keys]
    assert decision.evidence.too_much_fails
    assert (decision.more, progress.plan(0.0).limit) == (True, 8)


def test_what_fails_among_healthy_traffic_counts_and_what_fails_alone_does_not(progress: ModelState) -> None:
    before = History(1, "error", 100.0, 10.0)
    outcomes = []
    for now in (100.0, 110.0, 120.0):
        progress.mark_retry_due()
        decision = progress.finished(progress.plan(now), result(1, 0, (1, RAISED)), now)
        outcomes.append(decision.evidence.is_against(before, RAISED))
        if now == 100.0:
            progress.finished(progress.plan(now), result(8, 8), now=105.0)
    assert outcomes == [False, True, False]


def test_bad_signals_among_healthy_traffic_do_not_open_breaker(progress: ModelState) -> None:
    five = [(key, INVALID) for key in range(5)]
    for _ in range(12):
        progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
        progress.mark_retry_due()
        decision = progress.finished(progress.plan(0.0), result(5, 0, *five), now=0.0)
        assert not decision.evidence.too_much_fails


def test_refusals_let_bursts_grow_back_to_the_burst_count(progress: ModelState) -> None:
    progress.interrupted(OperationalError("SELECT", {}, Exception("canceling statement due to lock timeout")))
    limits = []
    for _ in range(5):
        plan = progress.plan(0.0)
        limits.append(plan.limit)
        progress.finished(plan, result(plan.limit, 0, *[(n, REFUSED) for n in range(plan.limit)]), now=0.0)
    assert limits == [1, 2, 4, 8, 8]


def test_what_was_sent_and_not_deleted_is_deleted_first_and_left_out_until_then(progress: ModelState) -> None:
    proved = (Proved((1,), "700"), Proved((2,), "700"))
    progress.interrupted(BurstError("the database is away", proved=proved))
    assert progress.avoided() == [(1,), (2,)]
    assert progress.has_due_suspect(0.0)
    assert not progress.mark_empty()
    progress.mark_retry_due()
    for now in (0.0, 100.0):
        plan = progress.plan(now)
        assert (plan.proved, plan.retry, plan.suspect) == (proved, False, None)
        progress.interrupted(OperationalError("DELETE", {}, Exception("locked")))
        # Rows that another session has locked keep no others waiting.
        assert not progress.has_due_suspect(now)
        between = progress.plan(now)
        assert (between.proved, between.avoid) == ((), ((1,), (2,)))
    assert progress.finished(progress.plan(200.0), result(2, 2), now=200.0).more
    assert progress.avoided() == []
    assert progress.plan(0.0).proved == ()


def test_what_cannot_be_deleted_is_left_out_until_it_is_noted(progress: ModelState) -> None:
    kept = BurstResult(selected=2, sent=1, undeleted=(FailedSignal((1,), UNDELETED, "700"),), keys=((1,), (2,)))
    decision = progress.finished(progress.plan(0.0), kept, now=0.0)
    assert decision.failed == kept.undeleted
    assert progress.plan(0.0).proved == (Proved((1,), "700"),)
    progress.mark_recorded(kept.undeleted)
    assert progress.avoided() == []
    assert progress.plan(0.0).rehearse


def test_suspects_retries_and_new_signals_take_turns(progress: ModelState) -> None:
    for key in (1, 2):
        progress.finished(progress.plan(0.0), result(1, 0, (key, UNKNOWN)), now=0.0)
    kinds = []
    for _ in range(6):
        progress.mark_retry_due()
        plan = progress.plan(2.0)
        kinds.append("suspect" if plan.suspect else "retry" if plan.retry else "scan")
    assert kinds == ["suspect", "retry", "scan"] * 2


def test_no_suspect_waits_longer_than_an_outage_would(progress: ModelState) -> None:
    for _ in range(50):
        progress.finished(progress.plan(0.0), result(1, 0, (1, UNKNOWN)), now=0.0)
    assert not progress.has_due_suspect(29.9)
    assert progress.has_due_suspect(30.0)


def test_long_outage_is_remembered_for_bounded_number_of_signals(progress: ModelState) -> None:
    for key in range(MOST_SUSPECTS + 10):
        progress.finished(progress.plan(0.0), result(1, 0, (key, UNKNOWN)), now=0.0)
    assert len(progress.avoided()) == MOST_SUSPECTS
    assert (0,) not in progress.avoided()


@pytest.mark.parametrize("burst_count", [1, 8])
def test_a_send_method_that_tells_nothing_of_its_signals_waits(burst_count: int) -> None:
    spec = SignalSpec(model=object, name="S", burst_count=burst_count, bind_key=None, send_one=print, send_many=None)
    progress = ModelState(spec)
    silent = result(1, error=PartialDeliveryError(delivered=[]))
    decision = progress.finished(progress.plan(0.0), silent, now=0.0)
    assert not decision.more
    assert decision.wait_seconds > 0
    assert decision.problem is not None


def test_set_aside_signals_flow_again_when_they_are_sent_and_not_when_they_fail_once_more(
    progress: ModelState,
) -> None:
    assert not progress.flows_again()
    for burst, flows in ((result(1, 1), True), (result(2, 1, (1, RAISED)), False), (result(1, 1), True)):
        progress.mark_retry_due()
        progress.finished(progress.plan(0.0), burst, now=0.0)
        assert progress.flows_again() == flows


def test_a_database_error_waits_and_goes_on_with_one_rehearsed_signal(progress: ModelState) -> None:
    progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
    assert not progress.plan(0.0).rehearse

    decision = progress.interrupted(
        BurstError("signals were sent and could not be deleted", proved=[Proved((n,), None) for n in range(8)])
    )

    assert decision.wait_seconds > 0
    assert decision.problem == "signals were sent and could not be deleted"
    assert progress.plan(0.0).rehearse


def test_the_first_burst_is_rehearsed_and_one_a_minute(progress: ModelState) -> None:
    assert progress.plan(0.0).rehearse
    progress.finished(progress.plan(0.0), result(8, 8), now=0.0)
    assert not progress.plan(59.0).rehearse
    assert progress.plan(60.0).rehearse


def test_what_last_rehearsal_found_of_table_is_remembered(progress: ModelState) -> None:
    assert not progress.plan(0.0).can_keep_rows
    for told, remembered in ((True, True), (None, True), (False, False)):
        progress.finished(progress.plan(0.0), replace(result(8, 8), can_keep_rows=told), now=0.0)
        assert progress.plan(0.0).can_keep_rows is remembered
