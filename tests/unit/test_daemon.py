"""The end of the relay: with which exit code, and what is cleared away."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

from relay.daemon import Daemon
from relay.exit_codes import EXIT_CONFIGURATION, EXIT_DRAIN_TIMED_OUT, EXIT_RUNTIME, StopRequest


def supervised(*requests: StopRequest | None) -> StopRequest:
    """What ends a relay whose poller's thread has ended, when these requests are seen one after the other."""
    seen = list(requests)
    daemon = SimpleNamespace(
        _stop=SimpleNamespace(next_request=lambda _seconds: seen.pop(0)),
        _hanging=Mock(),
        _add_spare=lambda: None,
        _threads={threading.Thread(): SimpleNamespace(name="probe")},
    )
    return Daemon._supervise(cast(Any, daemon))


def test_poller_that_asks_for_the_end_just_before_its_own_is_heard() -> None:
    asked = StopRequest("its table has no primary key", EXIT_CONFIGURATION)
    assert supervised(None, asked) is asked


def test_a_thread_that_ends_unasked_ends_the_relay() -> None:
    assert supervised(None, None) == StopRequest("thread died: probe", EXIT_RUNTIME)


def test_a_relay_that_gives_up_removes_its_row() -> None:
    daemon = SimpleNamespace(_replicas=Mock())
    assert Daemon._give_up(cast(Any, daemon), ["worker-1"]) == EXIT_DRAIN_TIMED_OUT
    daemon._replicas.close.assert_called_once_with()
