"""Counts of the last minutes: what falls into which bucket, and what is forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.telemetry.throughput import BUCKET_SECONDS, BUCKETS, RATE_BUCKETS, Throughput


def test_a_rate_is_that_of_the_last_whole_buckets() -> None:
    rates = Throughput(100.0)
    for second in range(15):
        rates.add(4, 100.0 + second)
    assert rates.per_second(115.0) == 4.0
    assert rates.counts(115.0)[-3:] == [20, 20, 20]


def test_the_bucket_that_is_being_filled_is_not_shown_yet() -> None:
    rates = Throughput(0.0)
    rates.add(7, 1.0)
    assert sum(rates.counts(4.9)) == 0
    assert rates.counts(5.0)[-1] == 7


def test_what_is_too_old_is_forgotten() -> None:
    rates = Throughput(0.0)
    rates.add(7, 1.0)
    assert rates.counts(BUCKETS * BUCKET_SECONDS + 4.9)[0] == 7
    assert sum(rates.counts((BUCKETS + 1) * BUCKET_SECONDS)) == 0


def test_a_long_silence_empties_all() -> None:
    rates = Throughput(0.0)
    for second in range(600):
        rates.add(1, float(second))
    assert sum(rates.counts(1e9)) == 0
    assert rates.per_second(1e9) == 0


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), max_size=60), st.floats(0, 2000))
def test_counts_are_those_of_whole_buckets_that_are_shown(steps: list[tuple[int, float]], more: float) -> None:
    rates, now, added = Throughput(0.0), 0.0, []
    for number, pause in steps:
        now += pause
        rates.add(number, now)
        added.append((int(now / BUCKET_SECONDS), number))
    now += more
    current = int(now / BUCKET_SECONDS)
    expected = [sum(n for bucket, n in added if bucket == current - BUCKETS + place) for place in range(BUCKETS)]
    assert rates.counts(now) == expected
    assert rates.per_second(now) == sum(expected[-RATE_BUCKETS:]) / (RATE_BUCKETS * BUCKET_SECONDS)
