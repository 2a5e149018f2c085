"""What a row of an outbox table means, and what is wrong with one that means nothing."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from signalbus_core.rabbitmq import InvalidMessageError, message_from_row

NOON = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


def properties(**row: Any) -> dict[str, Any]:
    found = message_from_row(row).properties
    assert found is not None
    return {name: value for name, value in vars(found).items() if value is not None}


def test_what_is_missing_is_left_open() -> None:
    message = message_from_row({})
    assert (message.exchange, message.routing_key, message.body, message.mandatory) == (None, None, b"", True)
    assert properties() == {}


@pytest.mark.parametrize(
    ("row", "body", "content_type"),
    [
        ({"body": b"\x00\xff"}, b"\x00\xff", None),
        ({"body": b""}, b"", None),
        ({"body_text": ""}, "", None),
        ({"body_text": "tea"}, "tea", None),
        ({"body_json": '{"a": 1e400}'}, '{"a": 1e400}', "application/json"),
        ({"body_json": "1", "content_type": "application/vnd.shop+json"}, "1", "application/vnd.shop+json"),
    ],
)
def test_the_body_is_the_field_that_is_set(row: dict[str, Any], body: object, content_type: str | None) -> None:
    assert message_from_row(row).body == body
    assert properties(**row).get("content_type") == content_type


def test_fields_become_properties() -> None:
    given: dict[str, Any] = {
        name: name for name in ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id")
    }
    given |= {"app_id": "shop", "user_id": "guest", "priority": 3, "delivery_mode": 1, "headers": {"a": [1, None]}}
    assert properties(**given, message_type="Placed", expiration=60_000, timestamp=NOON) == {
        **given,
        "type": "Placed",
        "expiration": "60000",
        "timestamp": int(NOON.timestamp()),
    }


@pytest.mark.parametrize(
    ("row", "seconds"),
    [
        ({"timestamp": NOON, "created_at": NOON - timedelta(days=1)}, NOON.timestamp()),
        ({"created_at": NOON + timedelta(microseconds=999_999)}, NOON.timestamp()),
        ({"created_at": NOON.replace(tzinfo=None)}, NOON.timestamp()),
        ({"created_at": NOON.astimezone(timezone(timedelta(hours=5)))}, NOON.timestamp()),
    ],
)
def test_timestamp_is_that_of_row_and_same_on_every_resend(row: dict[str, Any], seconds: float) -> None:
    assert properties(**row) == {"timestamp": seconds}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"body": b"1", "body_json": "1"}, "body and body_json: one body is expected, not 2"),
        ({"headers": [1]}, "headers: a JSON object expected, not an array"),
        ({"headers": "a"}, "headers: a JSON object expected, not a string"),
        ({"headers": True}, "headers: a JSON object expected, not a boolean"),
        ({"headers": 1.5}, "headers: a JSON object expected, not a number"),
        ({"timestamp": "noon"}, "timestamp: a time expected, not str"),
        ({"timestamp": datetime.max.replace(tzinfo=timezone.utc)}, "timestamp: a time that is infinite"),
        ({"created_at": datetime.min.replace(tzinfo=timezone.utc)}, "created_at: a time that is infinite"),
    ],
)
def test_a_row_that_is_no_message_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"^{reason}$"):
        message_from_row(row)
