from __future__ import annotations

import pytest

from relay.probe import MEASURE_EVERY_SECONDS, TIDY_EVERY_SECONDS
from tests.integration.test_probe import Watched

assert MEASURE_EVERY_SECONDS


@pytest.mark.parametrize("note", ["3f2a", "42"])
def test_a_note_from_before_a_change_of_the_key_s_type_does_not_stop_the_relay(database_url: str, note: str) -> None:
    """The key was a text once and is a number now; or another application's model has the same class name."""
    watched = Watched(database_url, models=3)
    watched.execute(f"INSERT INTO signalbus_parked VALUES ('M00', '{note}', 12, now(), now(), NULL, 'error', '')")
    watched.probe.run_once()
    watched.clock.now += TIDY_EVERY_SECONDS + 1
    watched.execute("INSERT INTO m02 VALUES (1, '')")
    watched.probe.run_once()
    reasons = watched.health.readiness()["reasons"]
    taken = watched.dispatcher.take(0)
    watched.engine.dispose()
    assert watched.probe.database_is_up, reasons
    assert taken == "M02"
