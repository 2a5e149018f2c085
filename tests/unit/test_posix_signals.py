"""Stop requests by POSIX signals, and those of a relay's own parts."""

from __future__ import annotations

import os
import queue
import signal

import pytest

from relay.exit_codes import StopRequest
from relay.runtime import Stop
from signalbus_core.lowlevel import STOP_SIGNALS, stop_requests


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_stop_signal_is_handed_on_and_old_handler_returns(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    with stop_requests(requests.put):
        os.kill(os.getpid(), number)
        assert requests.get(timeout=10) == number.name
    assert signal.getsignal(number) is before


def test_parts_and_signals_end_relay_by_same_queue() -> None:
    stop = Stop()
    assert stop.next_request(0) is None
    with stop_requests(lambda name: stop.request(StopRequest(name, by_signal=True))):
        os.kill(os.getpid(), signal.SIGTERM)
        stop.request(StopRequest("nothing is left to send"))
    found = [stop.next_request(10), stop.next_request(10)]
    assert [(one.reason, one.by_signal) for one in found if one] == [
        ("SIGTERM", True),
        ("nothing is left to send", False),
    ]
    assert not stop.is_set(), "the main thread decides"
