"""What the meter reports where a database has no table of failed signals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from relay.poller.backlog_meter import BacklogMeter
from signalbus_core.lowlevel import Measurement


@pytest.mark.parametrize("skips_parked", [False, True])
def test_parked_signals_in_memory_hold_back_their_keys_whatever_the_model_says(skips_parked: bool) -> None:
    """Bursts leave them out by their keys, and take nothing behind them."""
    events = Mock()
    state = SimpleNamespace(
        spec=SimpleNamespace(order=SimpleNamespace(skips_parked=skips_parked)),
        set_has_room=lambda _: None,
        flows_again=lambda: False,
    )
    stores = {"Move": SimpleNamespace(count=lambda: (2, 3), most=100)}
    runtime = SimpleNamespace(events=events, clock=lambda: 1.0)
    meter = BacklogMeter(cast(Any, {"Move": state}), cast(Any, stores), cast(Any, runtime))
    assert meter.begin()
    meter.report([("Move", Measurement(9, None, None))], {}, has_table=False)
    events.blocked_counted.assert_called_once_with("Move", 5)
