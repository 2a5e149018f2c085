"""Log lines: sentences with an action, for people or as JSON, and never a password."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.logs import JsonFormatter, TextFormatter, configure_logging, redact


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = (logger.handlers[:], logger.level, logging.raiseExceptions, logging.getLogger("pika").level)
    yield logger
    logger.handlers[:], logger.level, logging.raiseExceptions = before[:3]
    logging.getLogger("pika").setLevel(before[3])


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.INFO, "f", 1, message, args, None, extra=extra)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://user:pw@host:5672/", "amqp://user:***@host:5672/"),
        ("postgresql+psycopg2://u:p@ss:w@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("amqp://:pw@host/ and amqps://a:b@c/", "amqp://:***@host/ and amqps://a:***@c/"),
        ("amqp://user@host:5672/", "amqp://user@host:5672/"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("no url at all", "no url at all"),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.from_regex(r"[A-Za-z0-9!$&'()*+,;=._~%@:-]{6,20}", fullmatch=True))
def test_no_password_is_shown_whatever_it_is_made_of(password: str) -> None:
    assert password not in redact(f"cannot reach amqp://user:{password}@host.example/vhost today")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_passwords_are_hidden_in_every_part_of_a_line(formatter: logging.Formatter) -> None:
    url = "amqp://user:secret@host/"
    line = record("at %s", url, action="x", url=url, many=[url], table={"deep": url}, thing=ValueError(url))
    try:
        raise ValueError(url)
    except ValueError as error:
        line.exc_info = (ValueError, error, error.__traceback__)
    assert "secret" not in formatter.format(line)


def test_a_text_line_is_time_level_sentence_and_facts() -> None:
    line = TextFormatter().format(record("Sent %d signals.", 3, action="sent", note="two words"))
    assert line.split(" ", 1)[1] == 'INFO Sent 3 signals. action=sent note="two words"'
    assert line.split(" ", 1)[0].endswith("Z")


def test_a_json_line_is_one_object_with_all_facts() -> None:
    line = JsonFormatter().format(record("Sent %d\nsignals.", 3, action="sent", key=object()))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["action"], fields["level"]) == ("Sent 3\nsignals.", "sent", "INFO")


def test_configured_logging_replaces_what_was_there(root: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("json", "WARNING", stream)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["loud"]


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "INFO", FullDisk())
    logging.getLogger("x").info("lost")
    assert capsys.readouterr().err == ""
