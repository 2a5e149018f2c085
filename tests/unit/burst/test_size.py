"""The size of bursts, by the size of their messages and rows."""

from __future__ import annotations

import threading
from contextvars import copy_context
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.burst.size import (
    FIRST_SIGNALS,
    GROWTH,
    MOST_BYTES,
    REMEMBERED,
    MessageSizes,
)
from signalbus_core.lowlevel import BurstResult, BurstSize, FailedSignal
from signalbus_core.model.sending.progress import ProgressReporter, holds_locks, report_bytes, report_progress

MOST = 1_000_000

largest_bursts = st.integers(1, 5000)


def burst(count: int, message_bytes: int | None) -> BurstResult:
    return BurstResult(selected=count, sent=count, message_bytes=message_bytes)


@given(largest_bursts, st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers(0, 10**9)), max_size=30))
def test_a_burst_never_passes_burst_count_and_takes_at_least_one(
    largest: int, bursts: list[tuple[int, int | None]]
) -> None:
    size = BurstSize(largest, sizes=MessageSizes(MOST))
    for count, message_bytes in bursts:
        size.record(burst(count, message_bytes))
        assert 1 <= size.limit <= largest


@given(largest_bursts, st.integers(1, 2 * MOST))
def test_bursts_of_signals_of_one_weight_are_never_too_heavy_and_become_as_large_as_they_may(
    largest: int, weight: int
) -> None:
    size = BurstSize(largest, sizes=MessageSizes(MOST))
    assert size.limit == min(largest, FIRST_SIGNALS)
    for number in range(10):
        count = size.limit
        assert number == 0 or count == 1 or count * weight <= MOST
        size.record(burst(count, count * weight))
    assert size.limit == max(1, min(largest, MOST // weight))


@given(st.lists(st.integers(1, 10_000), min_size=10, max_size=10), st.integers(1, 8))
def test_a_burst_is_too_heavy_by_no_more_than_its_signals_differ(weights: list[int], factor: int) -> None:
    size = BurstSize(5000, sizes=MessageSizes(MOST))
    base = max(weights)
    size.record(burst(FIRST_SIGNALS, FIRST_SIGNALS * base))
    for number in range(10):
        count = size.limit
        of_each = base * factor if number % 2 else base
        assert count * of_each <= MOST * factor
        size.record(burst(count, count * of_each))


def test_light_bursts_in_between_do_not_let_heavy_ones_grow() -> None:
    size = BurstSize(1000, sizes=MessageSizes(MOST))
    size.record(burst(10, 10 * 100_000))
    for _ in range(REMEMBERED - 1):
        size.record(burst(10, 10))
        assert size.limit == 10
    size.record(burst(10, 10))
    assert size.limit == 10 * GROWTH


def test_a_single_light_signal_does_not_make_the_next_burst_smaller_than_the_first() -> None:
    size = BurstSize(1000)
    size.record(burst(1, 10))
    assert size.limit == FIRST_SIGNALS


def test_signals_of_a_sender_that_does_not_tell_have_no_weight_once_some_were_sent() -> None:
    size = BurstSize(1000)
    refused = tuple(FailedSignal((number,), Outcome(OutcomeKind.INVALID)) for number in range(FIRST_SIGNALS))
    size.record(BurstResult(selected=FIRST_SIGNALS, sent=0, failed=refused))
    assert size.limit == FIRST_SIGNALS
    size.record(burst(FIRST_SIGNALS, None))
    assert size.limit == 1000


def test_burst_that_sends_nothing_changes_nothing_known() -> None:
    size = BurstSize(1000)
    size.record(burst(50, 50 * MOST_BYTES))
    assert size.limit == 1
    size.record(burst(1, None))
    size.record(burst(0, None))
    assert size.limit == 1


def test_burst_after_trouble_grows_to_what_weight_allows() -> None:
    size = BurstSize(1000, sizes=MessageSizes(MOST))
    size.record(burst(10, 10 * 10_000))
    assert (size.limit, size.is_whole) == (80, True)
    size.shrink()
    assert (size.limit, size.is_whole) == (1, False)
    for _ in range(10):
        size.record(burst(size.limit, size.limit * 10_000))
    assert (size.limit, size.is_whole) == (100, True)


def reporter() -> ProgressReporter:
    return ProgressReporter(Mock(), Mock(), 120.0, lambda: 0.0, 0.0, None)


def test_sizes_are_reported_to_innermost_burst_alone() -> None:
    report_bytes(1)
    with reporter() as outer:
        with reporter() as inner:
            report_bytes(2)
            report_bytes(3)
        assert (inner.message_bytes, outer.message_bytes) == (5, None)
        report_bytes(0)
    assert outer.message_bytes == 0


def test_database_is_asked_by_the_thread_of_the_burst_alone() -> None:
    connection, session = Mock(), Mock()
    with ProgressReporter(session, connection, 120.0, lambda: 1000.0, 0.0, None):
        for ask in (report_progress, lambda: holds_locks(ask=True)):
            other = threading.Thread(target=copy_context().run, args=(ask,))
            other.start()
            other.join()
        assert connection.execute.call_count == 0
        report_progress()
        assert connection.execute.call_count == 1
