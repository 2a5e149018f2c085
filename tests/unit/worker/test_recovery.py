"""After an outage: no faster than the highest rate, and new signals before the backlog."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.worker.recovery.fresh_first import BEHIND_SECONDS, FreshFirst, FreshScan
from relay.worker.recovery.rate import BUCKET_SECONDS, RateLimit


@given(
    rate=st.floats(0.5, 5000),
    bursts=st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1), st.floats(0, 0.5)), max_size=60),
)
def test_no_second_has_more_signals_than_the_rate_allows(rate: float, bursts: list[tuple[int, float, float]]) -> None:
    limit, now, sent = RateLimit(rate), 0.0, 0
    for wanted, share, pause in bursts:
        taken = limit.take(wanted, now)
        assert 1 <= taken <= wanted
        used = round(taken * share)
        limit.give_back(taken - used)
        sent += used
        now += pause + limit.wait_seconds(now)
        assert sent <= rate * now + max(1.0, rate * BUCKET_SECONDS) + 1e-6


def test_several_workers_pay_for_what_they_take_in_advance() -> None:
    limit = RateLimit(10)
    assert [limit.take(500, 0.0) for _ in range(3)] == [1, 1, 1]
    assert limit.wait_seconds(0.0) == pytest.approx(0.3)


def test_without_a_rate_nothing_is_limited() -> None:
    limit = RateLimit(None)
    assert limit.take(500, 0.0) == 500
    assert limit.wait_seconds(0.0) == 0


def test_without_a_backlog_every_burst_is_a_usual_one() -> None:
    fresh = FreshFirst(is_on=True)
    fresh.sent(3, 0.1, has_more=False)
    assert [fresh.next_scan() for _ in range(3)] == [None, None, None]


def test_with_a_backlog_every_other_burst_takes_what_is_above_the_highest_key() -> None:
    fresh = FreshFirst(is_on=True)
    fresh.sent(500, 0.04, has_more=True)
    newest = fresh.next_scan()
    assert newest == FreshScan(None)
    assert fresh.limit(500, newest) == 1
    fresh.scanned(newest, 1_000_000, 0.0)
    assert fresh.next_scan() is None
    assert fresh.limit(500, None) == 500
    assert fresh.next_scan() == FreshScan(1_000_001)


def test_bursts_of_a_backlog_are_short_but_not_tiny() -> None:
    fresh = FreshFirst(is_on=True)
    fresh.sent(500, 0.3, has_more=True)
    assert fresh.limit(500, None) == 250
    fresh.sent(250, 0.2, has_more=True)
    fresh.sent(125, 0.2, has_more=True)
    fresh.sent(62, 0.2, has_more=True)
    assert fresh.limit(500, None) == 50
    fresh.sent(50, 0.01, has_more=True)
    fresh.sent(50, 0.01, has_more=True)
    assert fresh.limit(500, None) == 124
    fresh.sent(3, 0.3, has_more=False)
    assert fresh.limit(500, None) == 500


def test_the_start_follows_what_is_found_a_second_behind() -> None:
    fresh = FreshFirst(is_on=True)
    fresh.sent(500, 0.04, has_more=True)
    fresh.scanned(FreshScan(None), 10, 0.0)
    fresh.scanned(FreshScan(11), 11, 0.5)
    fresh.scanned(FreshScan(11), 90, 0.6)
    fresh.scanned(FreshScan(11), None, 0.7)
    assert fresh.next_scan() == FreshScan(11)
    fresh.scanned(FreshScan(11), 200, 0.6 + BEHIND_SECONDS)
    fresh.next_scan()
    assert fresh.next_scan() == FreshScan(90)


def test_once_the_backlog_is_gone_a_new_one_begins_anew() -> None:
    fresh = FreshFirst(is_on=True)
    fresh.sent(500, 0.04, has_more=True)
    fresh.scanned(FreshScan(None), 10, 0.0)
    fresh.sent(3, 0.1, has_more=False)
    assert fresh.next_scan() is None
    fresh.sent(500, 0.04, has_more=True)
    assert fresh.next_scan() == FreshScan(None)


def test_it_is_off_by_default() -> None:
    fresh = FreshFirst()
    fresh.sent(500, 0.04, has_more=True)
    assert fresh.next_scan() is None
    assert fresh.limit(500, None) == 500
