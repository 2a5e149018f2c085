"""What the demo knows of each order, and the verdict. Pure bookkeeping: no database, no broker."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """The figures of a run.

    :param lost: orders that were committed and whose message never arrived.
    :param phantom: messages about orders that were never committed.
    :param duplicates: messages beyond the first of an order.
    :param per_second: messages from the first to the last arrival, by the time between.
    """

    committed: int
    rolled_back: int
    received: int
    lost: int
    phantom: int
    duplicates: int
    per_second: float
    p50_seconds: float
    p99_seconds: float

    @property
    def is_good(self) -> bool:
        return self.committed > 0 and self.lost == 0 and self.phantom == 0


@dataclass
class Ledger:
    """Orders and messages, as they are seen. Several threads write to it."""

    committed: dict[int, float] = field(default_factory=dict)
    rolled_back: int = 0
    arrivals: dict[int, list[float]] = field(default_factory=dict)
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def order_committed(self, order_id: int, time: float) -> None:
        with self._lock:
            self.committed[order_id] = time

    def order_rolled_back(self) -> None:
        with self._lock:
            self.rolled_back += 1

    def message_arrived(self, order_id: int, time: float) -> None:
        with self._lock:
            self.received += 1
            self.arrivals.setdefault(order_id, []).append(time)

    def missing(self) -> int:
        """How many committed orders have not arrived so far."""
        with self._lock:
            return len(self.committed.keys() - self.arrivals.keys())

    def report(self, orders_in_database: set[int]) -> Report:
        """Compare what arrived with what the database says was committed."""
        with self._lock:
            arrived = self.arrivals.keys()
            latencies = sorted(
                max(0.0, self.arrivals[order_id][0] - committed)
                for order_id, committed in self.committed.items()
                if order_id in arrived
            )
            times = [time for order_times in self.arrivals.values() for time in order_times]
            seconds = max(times) - min(times) if times else 0.0
            return Report(
                committed=len(orders_in_database),
                rolled_back=self.rolled_back,
                received=self.received,
                lost=len(orders_in_database - arrived),
                phantom=len(arrived - orders_in_database),
                duplicates=self.received - len(arrived),
                per_second=len(times) / seconds if seconds else 0.0,
                p50_seconds=percentile(latencies, 0.50),
                p99_seconds=percentile(latencies, 0.99),
            )


def percentile(ordered: list[float], part: float) -> float:
    """The value below which ``part`` of an ordered list lies; 0 for an empty list."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
