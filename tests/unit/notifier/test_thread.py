"""The thread of a notifier, while its database is away."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from relay.notifier.protocol import LONGEST_WAIT_SECONDS
from relay.notifier.thread import NotifyListener
from tests.support.clock import Clock
from tests.support.recorder import Recorder


def test_a_notifier_waits_although_a_try_is_due_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Recorder(clock=Clock()).runtime
    stub: Any = MagicMock()
    listener = NotifyListener(None, stub, [], stub, (), runtime)
    runtime.servers.failed(None, "refused")
    runtime.clock.now += 3600.0  # type: ignore[attr-defined]
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        runtime.servers.reached(None)

    def answer() -> float:
        runtime.stop.set()
        return 0.0

    monkeypatch.setattr(runtime.servers._changed, "wait", wait)
    monkeypatch.setattr(listener, "_answer", answer)
    listener.run()
    assert waits == [LONGEST_WAIT_SECONDS]
