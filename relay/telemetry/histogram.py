"""The delivery latency, from the write of a signal to its publisher confirm: a histogram that takes a burst at once.

A histogram of prometheus_client takes one value at a time, and locks for each. This one locks once for a burst.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

NAME = "signalbus_delivery_latency_seconds"
TEXT = "From the writing of a signal until it was sent and deleted; only of models that have the time of writing."

#: Upper bounds in seconds; they cover an outage of a day.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0, 86400.0)


class BatchHistogram(Collector):
    """The histogram ``signalbus_delivery_latency_seconds``, by signal model."""

    def __init__(self, buckets: Sequence[float] = BUCKETS) -> None:
        self._buckets = tuple(buckets)
        self._lock = threading.Lock()
        # The number of values within each bound; the last one is the number of all.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def prepare(self, name: str) -> None:
        """Create a model's series, at zero."""
        with self._lock:
            self._counts.setdefault(name, [0] * (len(self._buckets) + 1))
            self._sums.setdefault(name, 0.0)

    def observe(self, name: str, seconds: Iterable[float]) -> None:
        """Add the latencies of a burst. A negative one, due to clock skew, counts as zero."""
        self.prepare(name)
        # Sorted: one search for each bucket instead of one for each value.
        values = sorted(seconds)
        within = [bisect_right(values, bound) for bound in self._buckets]
        total = sum(values[bisect_right(values, 0.0) :])
        with self._lock:
            counts = self._counts[name]
            for place, count in enumerate((*within, len(values))):
                counts[place] += count
            self._sums[name] += total

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Without it, the registry would call :meth:`collect` at registration."""
        return [HistogramMetricFamily(NAME, TEXT, labels=["signal"])]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """For the registry."""
        family = HistogramMetricFamily(NAME, TEXT, labels=["signal"])
        with self._lock:
            copies = [(name, list(counts), self._sums[name]) for name, counts in self._counts.items()]
        bounds = [*map(_bound, self._buckets), "+Inf"]
        for name, counts, total in copies:
            buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
            family.add_metric([name], buckets, total)
        return [family]


def _bound(seconds: float) -> str:
    # As prometheus_client writes the bounds of its own histograms.
    return str(float(seconds))
