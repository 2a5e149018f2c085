"""The histogram of delivery latencies counts as the metrics library's own histogram does, a burst at a time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from relay.telemetry.histogram import BUCKETS, NAME, TEXT, BatchHistogram
from relay.telemetry.metrics import Metrics
from signalbus_core.lowlevel import BurstResult
from tests.support.recorder import ENDED


def rendered(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


@given(st.lists(st.lists(st.one_of(st.sampled_from(BUCKETS), st.floats(0, 1e6)), max_size=20), max_size=5))
def test_it_counts_as_the_librarys_histogram_does(bursts: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    latencies = BatchHistogram()
    ours.register(latencies)
    library = Histogram(NAME, TEXT, ["signal"], buckets=BUCKETS, registry=theirs)
    latencies.prepare("A")
    library.labels("A")
    for burst in bursts:
        latencies.observe("A", burst)
        for value in burst:
            library.labels("A").observe(value)
    for series in (line for line in rendered(theirs).splitlines() if "_sum" not in line and "_created" not in line):
        assert series in rendered(ours).splitlines()


def test_clocks_that_differ_make_no_latency_below_zero() -> None:
    registry, latencies = CollectorRegistry(), BatchHistogram()
    registry.register(latencies)
    latencies.observe("A", [-5.0])
    assert f'{NAME}_sum{{signal="A"}} 0.0' in rendered(registry)
    assert f'{NAME}_bucket{{le="0.005",signal="A"}} 1.0' in rendered(registry)


def test_what_was_sent_is_measured_from_when_it_was_written() -> None:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    metrics = Metrics(now=now.timestamp)
    metrics.prepare(["A", "B"])
    written = (now - timedelta(seconds=2), (now - timedelta(seconds=40)).astimezone(timezone(timedelta(hours=5))))
    metrics.burst_ended("A", BurstResult(selected=3, sent=2, written_at=written), ENDED)
    text = metrics.render().decode()
    assert f'{NAME}_sum{{signal="A"}} 42.0' in text
    assert f'{NAME}_bucket{{le="2.5",signal="A"}} 1.0' in text
    assert f'{NAME}_count{{signal="B"}} 0.0' in text
