"""What an exception of a send method tells, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

from signalbus_core import outage_errors
from signalbus_core.failures import MOST_COMPARED, is_outage_error
from signalbus_core.lowlevel import error_text
from signalbus_core.rabbitmq import BrokerConnectionError


class Row:
    def __init__(self, **columns: Any) -> None:
        self.__dict__.update(columns)


def database_error(text: str) -> sa.exc.DBAPIError:
    return sa.exc.IntegrityError("INSERT INTO card VALUES (%s)", {"number": "4711"}, Exception(text))


@pytest.mark.parametrize(
    ("columns", "text", "shown"),
    [
        ({"body": "4711-0815"}, "bad card 4711-0815", "bad card ***"),
        ({"body": '{"email": "joe@example.org"}'}, "bad address joe@example.org", "bad address ***"),
        ({"body": "Smith, John"}, "unknown customer 'Smith'", "unknown customer '***'"),
        ({"body": b"raw \xff bytes"}, r"cannot decode b'raw \xff bytes'", "cannot decode b'raw *** ***'"),
        ({"data": {"iban": ["DE021203"]}}, "no such account: DE021203", "no such account: ***"),
        ({"amount": 123456}, "amount=123456 is too much", "amount=*** is too much"),
        ({"body": "x"}, "max size exceeded", "max size exceeded"),
    ],
)
def test_what_the_columns_hold_is_not_shown(columns: dict[str, Any], text: str, shown: str) -> None:
    assert error_text(ValueError(text), [Row(**columns)]) == f"ValueError: {shown}"


def test_text_that_cannot_be_compared_is_left_out() -> None:
    text = error_text(ValueError("secret"), [Row(body="x" * MOST_COMPARED)])
    assert text.startswith("ValueError: (left out")


def test_of_a_database_error_only_the_first_line_is_told_without_statement_and_parameters() -> None:
    text = error_text(database_error("duplicate key\nDETAIL: Key (number)=(4711) already exists"))
    assert text == "IntegrityError: duplicate key"


class Refused(Exception):
    """A value that PostgreSQL could not convert."""

    pgcode = "22P02"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ('invalid input syntax for type integer: "4711"', 'invalid input syntax for type integer: "***"'),
        ('value "47"11" is out of range for type integer', 'value "***"'),
        ('value "4711" is out of range for type integer', 'value "***" is out of range for type integer'),
        ('invalid input syntax for type integer: "47\n11"', 'invalid input syntax for type integer: "***"'),
    ],
)
def test_a_value_that_the_database_could_not_convert_is_not_shown(told: str, shown: str) -> None:
    assert error_text(sa.exc.DataError("SELECT 1", {}, Refused(told))) == f"DataError: {shown}"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OSError(),
        AMQPConnectionError(),
        BrokerConnectionError("nobody answers"),
        sa.exc.OperationalError("SELECT 1", {}, Exception("gone")),
    ],
)
def test_what_tells_of_something_that_is_away_is_an_outage(error: Exception) -> None:
    assert is_outage_error(error)


@pytest.mark.parametrize(
    "error",
    [None, ValueError(), FileNotFoundError(), SystemExit(), ChannelClosedByBroker(404, "x"), database_error("x")],
)
def test_everything_else_is_not(error: BaseException | None) -> None:
    assert not is_outage_error(error)


def test_an_application_can_name_outages_of_its_own() -> None:
    class GatewayAwayError(Exception):
        pass

    assert not is_outage_error(GatewayAwayError())
    outage_errors(GatewayAwayError)
    assert is_outage_error(GatewayAwayError())
