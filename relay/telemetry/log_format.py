"""Log lines for people and for machines. Passwords reach neither, and a log that nobody reads stops nobody.

A line is a sentence and an ``action``, which is stable and can be searched for; further facts follow as key=value, or
as fields in JSON.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import datetime, timezone
from typing import IO, Any

from .log_queue import QueuedHandler

#: What every log record has; everything else was given as ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

#: The password of a URL, up to the last @ before the next space: passwords may contain an @, a colon and a slash. Only
#: of the web a number before a slash is a port, whatever follows.
_PASSWORD = re.compile(r"(?P<start>(?:(?<=http)|(?<=https))://[^\s/:]*:(?!\d+/)|(?<!http)(?<!https)://[^\s/:]*:)\S+@")

#: The value of a parameter whose name ends so, as in a DSN or in the query of a URL.
_PARAMETER = re.compile(r"""(?P<start>passw(?:or)?d=)(?:'[^']*'|"[^"]*"|[^\s&'"]+)""", re.IGNORECASE)

#: An @ that was not escaped in a password ends it too soon: the rest is taken for a part of the host's name.
_HOST = re.compile(r"""(?P<start>(?:host(?: name)?|server at) ["'])[^"'\s]*@""")


def redact(text: str) -> str:
    """Replace the passwords in a text, as URLs, DSNs and the errors about them show them."""
    text = _PARAMETER.sub(r"\g<start>***", _PASSWORD.sub(r"\g<start>***@", text))
    return _HOST.sub(r"\g<start>***@", text)


def configure_logging(format_name: str, level: str, stream: IO[str] | None = None) -> None:
    """Send all log lines of the process to standard error.

    :param format_name: ``text`` or ``json``.
    """
    # A log that cannot be written, because its disk is full or its reader is gone, must not stop the relay.
    logging.raiseExceptions = False
    root = logging.getLogger()
    handler = _handler_of(root, stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # pika reports each lost connection in many lines; ours has one, with what to make of it.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def _handler_of(root: logging.Logger, stream: IO[str] | None) -> QueuedHandler:
    """The handler of a stream; the same one again, because two writers would mix their lines."""
    for handler in root.handlers:
        if isinstance(handler, QueuedHandler) and handler.stream is stream:
            return handler
    return QueuedHandler(stream)


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO sentence action=... key=value``, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        facts = "".join(f" {key}={_plain(value)}" for key, value in _extras(record).items())
        lines = [f"{_time(record)} {record.levelname} {record.getMessage()}{facts}"]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return redact("\n".join(lines))


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
    return json.dumps(text) if not text or any(character.isspace() or character in '"=' for character in text) else text


def redacted(value: object) -> object:
    """The value with the passwords in its texts replaced."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (list, tuple)):
        return [redacted(one) for one in value]
    if isinstance(value, dict):
        return {str(key): redacted(one) for key, one in value.items()}
    return value


def _as_text(value: object) -> str:
    return redact(str(value))
