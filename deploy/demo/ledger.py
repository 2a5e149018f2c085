"""What the demo knows of each order, and its report: the bookkeeping of a drill, and how quick it was. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from relay.drill.oracle import Oracle as SignalLedger


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


class Ledger(SignalLedger):
    """Orders and messages, as they are seen. Several threads write to it."""

    def order_committed(self, order_id: int, time: float) -> None:
        self.note_committed([order_id], time)

    def order_rolled_back(self) -> None:
        self.note_rolled_back(1)

    def message_arrived(self, order_id: int, time: float) -> None:
        self.note_arrival(order_id, time)

    def report(self, orders_in_database: set[int]) -> Report:
        """Compare what arrived with what the database says was committed."""
        tally = self.tally(orders_in_database)
        latencies = sorted(
            max(0.0, self.arrivals[order_id] - committed)
            for order_id, committed in self.committed.items()
            if order_id in self.arrivals
        )
        seconds = self.last_arrival - self.first_arrival
        return Report(
            committed=tally.committed,
            rolled_back=tally.rolled_back,
            received=tally.received,
            lost=len(tally.lost),
            phantom=len(tally.phantom),
            duplicates=tally.duplicates,
            per_second=tally.received / seconds if seconds else 0.0,
            p50_seconds=percentile(latencies, 0.50),
            p99_seconds=percentile(latencies, 0.99),
        )


def percentile(ordered: list[float], part: float) -> float:
    """The value below which ``part`` of an ordered list lies; 0 for an empty list."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
