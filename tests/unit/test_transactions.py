"""A transaction that lost a race is run again, within a bound."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from signalbus_core import DBSerializationError
from signalbus_core.transactions.retry import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, is_race, retry_on_race


class DriverError(Exception):
    def __init__(self, pgcode: str | None = None, sqlstate: str | None = None) -> None:
        self.pgcode, self.sqlstate = pgcode, sqlstate


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("attribute", ["pgcode", "sqlstate"])
def test_serialization_failures_and_deadlocks_are_races(code: str, attribute: str) -> None:
    assert is_race(OperationalError("", {}, DriverError(**{attribute: code})))


@pytest.mark.parametrize("error", [ValueError("40001"), OperationalError("", {}, DriverError("23505"))])
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_race(error)


def run(failures: list[Exception], **arguments: Any) -> tuple[str, list[float]]:
    waits: list[float] = []
    left = list(failures)

    def transaction() -> str:
        if left:
            raise left.pop(0)
        return "done"

    result = retry_on_race(transaction, wait=waits.append, uniform=lambda _low, high: high, **arguments)
    return result, waits


def test_it_waits_longer_before_each_try_up_to_a_bound() -> None:
    result, waits = run([DBSerializationError()] * 12)
    assert result == "done"
    assert waits[:3] == [FIRST_WAIT_SECONDS * 2, FIRST_WAIT_SECONDS * 4, FIRST_WAIT_SECONDS * 8]
    assert max(waits) == waits[-1] == LONGEST_WAIT_SECONDS


def test_it_gives_up_after_last_try_and_does_not_wait() -> None:
    with pytest.raises(DBSerializationError):
        run([DBSerializationError()] * 3, tries=3)
    assert len(run([DBSerializationError()] * 2, tries=3)[1]) == 2


def test_an_error_that_is_no_race_is_raised_at_once() -> None:
    with pytest.raises(ValueError, match="x"):
        run([ValueError("x")])
