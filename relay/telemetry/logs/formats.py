"""Log lines as text and as JSON. Invariant: no line holds a password, and no text makes a line of its own.

A line is a sentence and an ``action``, which is stable and can be searched for; further facts follow as key=value, or
as fields in JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import IO, Any

from signalbus_core.lowlevel import one_line

from ...text import redact, redacted
from .loggers import OwnLogger, claim_loggers
from .queue import QueuedHandler

#: The attributes of every log record; all others were given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure_logging(format_name: str, level: str, stream: IO[str] | None = None) -> None:
    """Send all log lines of the process to standard error.

    :param format_name: ``text`` or ``json``.
    :param stream: another one. When neither is given, what was standard error the first time: the application may have
        replaced it since.
    """
    # A log that cannot be written (disk full, reader gone) must not stop the relay.
    logging.raiseExceptions = False
    root = logging.getLogger()
    handler = _handler_of(root, stream)
    handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    claim_loggers(handler, logging.getLevelName(level))
    # Warnings become log lines, too.
    logging.captureWarnings(True)
    # pika logs each lost connection in many lines; the relay logs one, with its consequence.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def _handler_of(root: logging.Logger, stream: IO[str] | None) -> QueuedHandler:
    """The handler of a stream; one for each stream, because two would mix their lines."""
    for handler in [OwnLogger.handler, *root.handlers]:
        if isinstance(handler, QueuedHandler) and stream in (None, handler.stream):
            return handler
    return QueuedHandler(stream or sys.stderr)


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO sentence action=... key=value``, and an indented traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {key}={_plain(value)}" for key, value in _extras(record).items())
        lines = [f"{_time(record)} {record.levelname} {record.getMessage()}{facts}"]
        if record.exc_info:
            # Indented, so that no line of an error's text looks like a line of the log.
            lines += [f"    {line}" for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(one_line(redact(line)) for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps({key: redacted(value) for key, value in fields.items()}, default=_as_text)


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    text = str(value)
    is_plain = text.isprintable() and not any(character in ' "=' for character in text)
    return text if text and is_plain else json.dumps(text)


def _as_text(value: object) -> str:
    return redact(str(value))
