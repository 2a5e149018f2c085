"""Classifies exceptions from a send method, as an outage or a fault of the signal, and makes their text safe to show.

An exception may contain data. The text that is shown never contains the column values of the signal.
"""

from __future__ import annotations

import re
import signal as posix_signals
import threading
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator, Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from functools import partial
from traceback import walk_tb
from typing import Any
from uuid import UUID

from sqlalchemy.engine import Row
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .errors import Outcome, OutcomeKind

#: Longer texts are cut to so many characters.
LONGEST_TEXT = 300

#: A word of a text. Shorter words are ignored because they would match everywhere.
_WORD = re.compile(r"""[^\s'"`,;:()\[\]{}<>=]{4,}""")

#: If the signals' columns have more characters, they are not compared with the text, and the text is omitted.
MOST_COMPARED = 1_000_000

#: Errors that mean that something the sender needs is unavailable. ``OSError`` covers refused and lost connections,
#: timeouts and names that cannot be resolved, and what most network libraries raise.
_OUTAGES: list[type[BaseException]] = [OSError, OperationalError, InterfaceError]

#: Their cause is a file that the signal names, not an outage.
_OF_FILES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def discard_unfinished(returned: object) -> str | None:
    """Close a generator or coroutine that a function has returned: its code has not run.

    :returns: the name of its type; None for everything else.
    """
    if isinstance(returned, (Generator, Coroutine)):
        returned.close()
    return type(returned).__name__ if isinstance(returned, (Generator, Awaitable, AsyncGenerator)) else None


def outage_errors(*kinds: type[BaseException]) -> None:
    """Count these errors, raised by a send method, as outages: they do not count as attempts of a signal."""
    _OUTAGES.extend(kind for kind in kinds if kind not in _OUTAGES)


def is_outage_error(error: BaseException | None) -> bool:
    """Whether the error means an outage, and not a fault of a signal."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, tuple(_OUTAGES)) and not isinstance(error, _OF_FILES)


#: Classes of SQLSTATE, and single ones, of an unavailable database: resources, operator intervention, read-only, idle
#: timeout. A lost connection is recognized without; class 08 on an open connection comes from a trigger.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = ("53", "57P", "25006", "25P03")

#: The server shuts down, has crashed, or takes no connections yet.
_ENDING = ("57P01", "57P02", "57P03")

#: Time limits, locks, serialization failures and deadlocks: a later try may succeed.
_LATE = ("57014", "55P03", "40")

#: Errors whose text has the value that PostgreSQL could not convert, in quotes. It may come from any row.
_WITH_VALUE = ("22P02", "22003", "22007", "22008")


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a database error; empty where it has none."""
    cause = getattr(error, "orig", None)
    # psycopg2 calls it pgcode, other drivers sqlstate.
    return getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None) or ""


def is_away(error: BaseException) -> bool:
    """Whether the database is unavailable, or cannot write at the moment: no row is the cause."""
    if isinstance(error, DBAPIError):
        code = sqlstate(error)
        # Without a code, the server did not send this error: the connection failed, though not marked as lost.
        return code.startswith(_AWAY) or is_lost(error)
    return isinstance(error, (PoolTimeoutError, ResourceClosedError, PendingRollbackError))


def is_lost(error: BaseException) -> bool:
    """Whether the connection to the database failed, or the server ends it: other statements would fail as well.

    A pool without a free connection, a full disk and a read-only transaction are none of these.
    """
    if not isinstance(error, DBAPIError):
        return False
    code = sqlstate(error)
    is_of_driver = not code and isinstance(error, (OperationalError, InterfaceError))
    return error.connection_invalidated or is_of_driver or code in _ENDING


def is_late(error: BaseException) -> bool:
    """Whether the cause is a time limit, a lock or a race: the same may succeed later."""
    return sqlstate(error).startswith(_LATE)


def is_time_limit(error: BaseException) -> bool:
    """Whether the cause is a time limit of a statement, or of waiting for a lock."""
    return sqlstate(error) in ("57014", "55P03")


def is_locked(error: BaseException) -> bool:
    """Whether a lock took too long, that of a table for example."""
    return sqlstate(error) == "55P03"


def is_of_schema(error: BaseException) -> bool:
    """Whether an object or a privilege is missing (class 42): this usually affects every row."""
    return sqlstate(error).startswith("42")


def is_stop(error: BaseException) -> bool:
    """Whether an error that the application's code let through is a request to stop, and no fault of a signal.

    That is Ctrl-C, which only the main thread receives; an exit that the handler of a POSIX signal raised; the end of
    the greenlet. Whatever else is no ``Exception`` (an exit, ``asyncio.CancelledError``, a timeout of gevent) comes
    from the code that was called, and would come again at each start.
    """
    if isinstance(error, KeyboardInterrupt):
        return threading.current_thread() is threading.main_thread()
    if isinstance(error, SystemExit):
        handlers = _codes_of_signal_handlers()
        return any(frame.f_code in handlers for frame, _ in walk_tb(error.__traceback__))
    return any(kind.__name__ == "GreenletExit" for kind in type(error).__mro__)


def raise_if_stop(error: BaseException) -> None:
    """Raise a request to stop again; called where the application's code may raise anything."""
    if is_stop(error):
        raise error


def _codes_of_signal_handlers() -> set[object]:
    handlers = filter(callable, map(posix_signals.getsignal, posix_signals.valid_signals()))
    functions = [handler.func if isinstance(handler, partial) else handler for handler in handlers]
    return {_code(function) or _code(type(function).__call__) for function in functions} - {None}


def _code(function: object) -> object:
    return getattr(getattr(function, "__func__", function), "__code__", None)


def sender_failure(error: BaseException, signal: Any) -> Outcome:
    """The outcome of a single signal whose send method raised an error that carries no outcomes."""
    if is_outage_error(error):
        return Outcome(OutcomeKind.UNKNOWN, error_text(error, [signal]))
    return Outcome(OutcomeKind.UNKNOWN, error_text(error, [signal]), cause="error")


#: Characters that end a password in a URL, or a part of it, with how they are written instead.
_ESCAPED = {"@": "%40", "/": "%2F", "#": "%23", "?": "%3F", "[": "%5B", "]": "%5D", " ": "%20"}


def escaping_advice(url: str) -> str | None:
    """How to write the password of a URL that cannot be read; None when its password seems not to be the cause.

    The password itself is never shown.
    """
    login, at, _ = url.partition("://")[2].rpartition("@")
    password = login.partition(":")[2] if at else ""
    found = [f"{character} as {code}" for character, code in _ESCAPED.items() if character in password]
    if re.search("%(?![0-9a-fA-F]{2})", password):
        found.append("% as %25")
    return f"its password seems to have characters that must be escaped: write {', '.join(found)}" if found else None


def one_line(text: str) -> str:
    """A text from elsewhere as one line that moves no cursor and turns no direction of writing.

    What is not printable (line breaks, ESC and other control characters, marks for the direction) becomes a space.
    """
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def error_text(error: BaseException, signals: Iterable[Any] = ()) -> str:
    """An error in one line: its class, and its text without the values of these signals."""
    # SQLAlchemy's text has the statement with its parameters; the first line of the driver's text has neither.
    cause = getattr(error, "orig", None) if isinstance(error, DBAPIError) else None
    try:
        lines = [line for line in str(cause or error).strip().splitlines() if line.strip()]
        # libpq has a line for each host that it has tried.
        hosts = [line for line in lines if line.startswith("connection to server")]
        text = "; ".join(hosts) if len(hosts) > 1 else next(iter(lines), "")
    except Exception:  # noqa: BLE001 - an application's exception may fail even at this
        text = "(its text cannot be had)"
    if sqlstate(error) in _WITH_VALUE:
        text = re.sub('".*"' if text.count('"') % 2 == 0 else '".*', '"***"', text)
    text = one_line(without_values(text, signals)[:LONGEST_TEXT])
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def without_values(text: str, signals: Iterable[Any]) -> str:
    """The text with ``***`` in place of each word that occurs in the signals' columns."""
    held = ""
    for signal in signals:
        for value in signal if isinstance(signal, Row) else getattr(signal, "__dict__", {}).values():
            held += "".join(f"{shown}\n" for shown in _shown(value))
            if len(held) > MOST_COMPARED:
                return "(left out: there is too much data that it could show)"
    return _WORD.sub(lambda word: "***" if word[0] in held else word[0], text)


def _shown(value: object) -> Iterator[str]:
    """The texts as which a value may appear."""
    if isinstance(value, (str, int, float, Decimal, date, UUID)):
        yield str(value)
    elif isinstance(value, (bytes, bytearray)):
        yield value.decode(errors="replace")
        yield repr(bytes(value))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _shown(key)
            yield from _shown(inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from _shown(inner)
