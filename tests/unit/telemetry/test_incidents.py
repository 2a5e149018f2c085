"""One warning when a trouble begins, one a minute while it lasts, one line when it is over."""

from __future__ import annotations

import logging

import pytest

from relay.telemetry.incidents import Incidents
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def incidents(clock: Clock, caplog: pytest.LogCaptureFixture) -> Incidents:
    caplog.set_level(logging.INFO, logger="test.announce")
    return Incidents(logging.getLogger("test.announce"), clock)


def test_a_trouble_is_one_warning_however_often_it_is_found(
    incidents: Incidents, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(60):
        clock.now = float(second)
        incidents.raised("Database", "database_down", "connection refused")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "connection refused" in caplog.text


def test_a_lasting_trouble_is_repeated_once_a_minute(
    incidents: Incidents, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(0, 181, 10):
        clock.now = float(second)
        incidents.raised("Database", "database_down", "connection refused")
    assert len(caplog.records) == 4


def test_another_reason_is_a_warning_once_it_has_lasted(
    incidents: Incidents, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(20):
        clock.now = float(second)
        # While a server restarts, its reasons change; port and pid are no other reason.
        reason = ("reset", "refused", "starting up")[second] if second < 3 else f"login refused (pid {second})"
        incidents.raised("Database", "database_down", reason)
        assert incidents.lasting()["Database"].reason == reason
    assert [record.getMessage() for record in caplog.records] == ["Database: reset", "Database: login refused (pid 5)"]


def test_the_end_of_a_trouble_is_said_once_with_how_long_it_took(
    incidents: Incidents, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    incidents.raised("Database", "database_down", "connection refused")
    clock.now = 12.0
    incidents.resolved("Database", "database_up")
    incidents.resolved("Database", "database_up")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "12.0 s" in caplog.records[1].getMessage()


def test_troubles_of_different_things_do_not_hide_each_other(
    incidents: Incidents, caplog: pytest.LogCaptureFixture
) -> None:
    incidents.raised("Database", "database_down", "a")
    incidents.raised("Broker", "broker_down", "b")
    assert len(caplog.records) == 2
