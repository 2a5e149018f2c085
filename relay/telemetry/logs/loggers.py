"""The loggers of Signalbus in a relay's process. Invariant: nothing that an application configures stops their lines.

``logging.config.dictConfig()`` disables all loggers that it does not name, closes all handlers and replaces those of
the root; ``logging.disable()``, levels and ``propagate = False`` silence loggers too. An application may do so at any
time. Its own handlers still get the lines. Its factories, filters and handlers may raise, as they do where they expect
a request.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import IO, Any

#: The loggers with this name, and those below it, belong to Signalbus.
ROOT_NAME = "signalbus"


class OwnLogger(logging.Logger):
    """A logger whose lines always reach :attr:`handler`, from :attr:`lowest_level` on."""

    handler: logging.Handler | None = None
    lowest_level = logging.INFO

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None:
        """``logging.config`` sets it."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= OwnLogger.lowest_level

    def getEffectiveLevel(self) -> int:
        return OwnLogger.lowest_level

    def makeRecord(self, *args: Any, **keywords: Any) -> logging.LogRecord:
        try:
            return super().makeRecord(*args, **keywords)
        except Exception:  # noqa: BLE001 - the application's factory
            return _plain_record(*args, **keywords)

    def filter(self, record: logging.LogRecord) -> Any:
        # A filter of the application may add to the record, and refuses nothing.
        with suppress(Exception):
            super().filter(record)
        return True

    def callHandlers(self, record: logging.LogRecord) -> None:
        reached = list(_handlers(self))
        if OwnLogger.handler is not None and OwnLogger.handler not in reached:
            OwnLogger.handler.handle(record)
        for handler in reached:
            if record.levelno >= handler.level:
                # What a handler of the application raises concerns its own output.
                with suppress(Exception):
                    handler.handle(record)


def _plain_record(
    name: str,
    level: int,
    path: str,
    line: int,
    message: object,
    args: Any,
    exc_info: Any,
    function: str | None = None,
    extra: Mapping[str, object] | None = None,
    stack: str | None = None,
) -> logging.LogRecord:
    """What ``Logger.makeRecord()`` makes, without the factory that is set."""
    record = logging.LogRecord(name, level, path, line, message, args, exc_info, function, stack)
    vars(record).update(extra or {})
    return record


def _handlers(logger: logging.Logger) -> Iterator[logging.Handler]:
    """The handlers that a logger's lines reach as logging is configured."""
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def claim_loggers(handler: logging.Handler, lowest_level: int) -> None:
    """Have the lines of all loggers of Signalbus reach this handler, whatever is configured from now on."""
    OwnLogger.handler, OwnLogger.lowest_level = handler, lowest_level
    for logger in _own_loggers():
        logger.__class__ = OwnLogger


def release_loggers() -> None:
    """Make them ordinary loggers again."""
    OwnLogger.handler = None
    for logger in _own_loggers():
        logger.__class__ = logging.Logger


def _own_loggers() -> list[logging.Logger]:
    known = logging.getLogger(ROOT_NAME).manager.loggerDict.items()
    return [
        logger
        for name, logger in list(known)
        if isinstance(logger, logging.Logger) and (name == ROOT_NAME or name.startswith(f"{ROOT_NAME}."))
    ]


class LineStream(io.TextIOBase):
    """A text stream whose lines become log lines. Whatever else is asked of it, the real stream answers."""

    def __init__(self, stream: IO[str], name: str, handler: logging.Handler) -> None:
        self._stream = stream
        self._logger_name = name
        self._handler = handler
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        """The handler writes by itself."""

    def end_line(self) -> None:
        """Log what has no line break at its end."""
        begun, self._begun = self._begun, ""
        self._log(begun)

    def _log(self, line: str) -> None:
        if line.strip():
            self._handler.handle(
                logging.LogRecord(self._logger_name, logging.INFO, self._logger_name, 0, line, None, None)
            )

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def buffer(self) -> Any:
        return self._stream.buffer  # type: ignore[attr-defined, unused-ignore]


@contextmanager
def output_as_log(format_name: str) -> Iterator[None]:
    """Keep what the application prints while it is loaded out of the relay's output.

    A JSON log then has nothing but JSON lines: what is written to standard output and standard error becomes log lines.
    Handlers that the application makes meanwhile keep writing so. In a text log, it all goes to standard error.
    """
    handler = OwnLogger.handler
    if format_name == "text" or handler is None:
        with redirect_stdout(sys.stderr):
            yield
        return
    streams = [LineStream(sys.stdout, "stdout", handler), LineStream(sys.stderr, "stderr", handler)]
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(streams[0]))
        stack.enter_context(redirect_stderr(streams[1]))
        try:
            yield
        finally:
            for stream in streams:
                stream.end_line()
