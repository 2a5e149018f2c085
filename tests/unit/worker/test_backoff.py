"""How long the relay waits before it tries again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.worker.backoff import Backoff


def highest(_low: float, high: float) -> float:
    return high


def lowest(low: float, _high: float) -> float:
    return low


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(0.2, 3.0, uniform=highest)
    assert [backoff.failed() for _ in range(6)] == [0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


def test_no_wait_is_shorter_than_the_shortest() -> None:
    assert Backoff(0.2, 30.0, uniform=lowest).failed() == 0.2


def test_a_success_starts_the_waits_from_the_beginning() -> None:
    backoff = Backoff(0.2, 30.0, uniform=highest)
    backoff.failed()
    backoff.failed()
    backoff.succeeded()
    assert backoff.failed() == 0.4


@given(st.integers(min_value=1, max_value=10**9))
def test_waits_stay_within_their_bounds_however_long_the_outage(failures: int) -> None:
    assert 0.2 <= Backoff().wait_seconds(failures) <= 30.0


def test_wait_is_drawn_from_whole_range_so_that_replicas_spread() -> None:
    ranges: list[tuple[float, float]] = []

    def record(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    Backoff(0.2, 30.0, uniform=record).wait_seconds(20)
    assert ranges == [(0.0, 30.0)]
