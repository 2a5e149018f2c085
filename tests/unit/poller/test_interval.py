"""How long the relay waits before it polls again."""

from __future__ import annotations

from relay.poller.interval import PollInterval


def lowest(low: float, _high: float) -> float:
    return low


def test_polls_slow_down_to_longest_interval_while_idle() -> None:
    poll = PollInterval(1.0, shortest_seconds=0.1, uniform=lowest)
    poll.next_seconds(active=True)
    assert [poll.next_seconds(active=False) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_polls_are_quick_after_signals_were_sent() -> None:
    poll = PollInterval(1.0, shortest_seconds=0.1, uniform=lowest)
    poll.next_seconds(active=False)
    assert poll.next_seconds(active=True) == 0.1


def test_replicas_do_not_poll_in_step() -> None:
    poll = PollInterval(1.0)
    assert len({poll.next_seconds(active=False) for _ in range(20)}) > 1
    assert all(1.0 <= poll.next_seconds(active=False) <= 1.2 for _ in range(100))
