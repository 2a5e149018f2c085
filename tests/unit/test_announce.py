"""One warning when a trouble begins, one a minute while it lasts, one line when it is over."""

from __future__ import annotations

import logging

import pytest

from relay.telemetry.incidents import Announcer
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def announcer(clock: Clock, caplog: pytest.LogCaptureFixture) -> Announcer:
    caplog.set_level(logging.INFO, logger="test.announce")
    return Announcer(logging.getLogger("test.announce"), clock)


def test_a_trouble_is_one_warning_however_often_it_is_found(
    announcer: Announcer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(60):
        clock.now = float(second)
        announcer.trouble("Database", "database_down", "connection refused")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "connection refused" in caplog.text


def test_a_lasting_trouble_is_repeated_once_a_minute(
    announcer: Announcer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(0, 181, 10):
        clock.now = float(second)
        announcer.trouble("Database", "database_down", "connection refused")
    assert len(caplog.records) == 4


def test_the_end_of_a_trouble_is_said_once_with_how_long_it_took(
    announcer: Announcer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    announcer.trouble("Database", "database_down", "connection refused")
    clock.now = 12.0
    announcer.fine("Database", "database_up")
    announcer.fine("Database", "database_up")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "12.0 s" in caplog.records[1].getMessage()


def test_troubles_of_different_things_do_not_hide_each_other(
    announcer: Announcer, caplog: pytest.LogCaptureFixture
) -> None:
    announcer.trouble("Database", "database_down", "a")
    announcer.trouble("Broker", "broker_down", "b")
    assert len(caplog.records) == 2
