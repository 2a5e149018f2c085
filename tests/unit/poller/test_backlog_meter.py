"""What the meter reports where a database has no table of failed signals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from relay.poller.backlog_meter import BacklogMeter
from signalbus_core.lowlevel import Choice, Measurement


@pytest.mark.parametrize(("passed_over", "blocking"), [((), 5), ((1, 2, 3), 2)])
def test_failed_signals_in_memory_hold_back_their_keys_unless_they_are_passed_over(
    passed_over: tuple[int, ...], blocking: int
) -> None:
    events = Mock()
    state = SimpleNamespace(
        spec=SimpleNamespace(order=object()),
        set_has_room=lambda _: None,
        flows_again=lambda: False,
    )
    choice = Choice(exclude=((1,), (2,), (3,), (4,), (5,)), passed_over=tuple((key,) for key in passed_over))
    stores = {"Move": SimpleNamespace(count=lambda: (2, 3), most=100, choice=lambda _avoid: choice)}
    runtime = SimpleNamespace(events=events, clock=lambda: 1.0)
    meter = BacklogMeter(cast(Any, {"Move": state}), cast(Any, stores), cast(Any, runtime))
    assert meter.begin()
    meter.report([("Move", Measurement(9, None, None))], {}, {}, has_table=False)
    events.blocked_counted.assert_called_once_with("Move", blocking)
