"""Reaching a database again, whatever the tries before have raised."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
from sqlalchemy.exc import OperationalError

from relay.poller.database import PolledDatabase
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.servers.reconnect import LONGEST_REFUSED_PAUSE_SECONDS
from relay.worker.model_state import ModelState
from signalbus_core.lowlevel import SignalSpec
from tests.support.clock import Clock
from tests.support.recorder import Recorder


class Reached:
    """A poller of one model, whose polls raise the given errors, one after the other, and then succeed."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.clock = Clock()
        self.recorder = Recorder(["Order"], self.clock)
        self.scheduler = Scheduler(["Order"], clock=self.clock)
        self.scheduler.found(["Order"])
        spec = SignalSpec(model=object, name="Order", burst_count=8, bind_key=None, send_one=print, send_many=None)
        stub: Any = MagicMock()
        states = {"Order": ModelState(spec)}
        self.poller = Poller(
            PolledDatabase(None, stub, [spec]), states, stub, stub, self.scheduler, self.recorder.runtime
        )
        self.poller._maintenance = self.poller._horizon = stub
        self.poller._poll = self.poll  # type: ignore[method-assign,assignment]

    def poll(self, *_args: object) -> list[str]:
        if self.errors:
            raise self.errors.pop(0)
        return ["Order"]

    def after_pause(self) -> bool:
        """Poll after the longest pause; return whether the database was reached."""
        self.clock.now += LONGEST_REFUSED_PAUSE_SECONDS
        self.poller.run_once()
        return self.poller.database_is_up


def lost() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("connection refused"))


@pytest.mark.parametrize("error", [ConnectionError("no token"), UnicodeDecodeError("utf8", b"\xe9", 0, 1, "bad")])
def test_a_database_is_used_again_after_an_error_of_another_kind(error: Exception) -> None:
    reached = Reached(lost(), error)
    assert not reached.after_pause()
    assert reached.scheduler.take(0) is None
    with pytest.raises(type(error)):
        reached.after_pause()
    assert reached.recorder.runtime.servers.problem(None) is not None
    assert reached.after_pause()
    assert reached.scheduler.take(0) == "Order"


def test_an_error_of_the_tcp_check_does_not_end_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Any] = [OSError("Too many open files"), None]

    def check(*_args: object) -> None:
        if (error := checks.pop(0)) is not None:
            raise error

    monkeypatch.setattr("relay.poller.poller.nothing_listens", check)
    reached = Reached(lost())
    assert not reached.after_pause()
    with pytest.raises(OSError, match="Too many"):
        reached.after_pause()
    assert reached.after_pause()
    assert reached.scheduler.take(0) == "Order"


def test_a_statement_that_lacks_memory_leaves_the_models_to_the_workers() -> None:
    cause: Any = Exception("out of memory")
    cause.sqlstate = "53200"
    reached = Reached(OperationalError("SELECT 1", {}, cause))
    assert not reached.after_pause()
    assert reached.scheduler.take(0) == "Order"
