"""What an exception from a send method tells: an outage, or a fault of the signal; and what may be said of it.

Exceptions carry data. What is said of one never shows the columns of the signal that it was raised for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError, ResourceClosedError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from .errors import Outcome, OutcomeKind

#: What remains of a longer text.
LONGEST_TEXT = 300

#: A word of a text, shorter ones aside: they would be found everywhere.
_WORD = re.compile(r"""[^\s'"`,;:()\[\]{}<>=]{4,}""")

#: More characters of the signals' columns are not compared with a text; it is left out then.
MOST_COMPARED = 1_000_000

#: Errors that mean that something the sender needs is away, whatever the signal. ``OSError`` covers refused and lost
#: connections, timeouts and names that cannot be resolved, and what most network libraries raise.
_OUTAGES: list[type[BaseException]] = [OSError, OperationalError, InterfaceError]

#: These are about what a signal names, not about something that is away.
_OF_FILES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def outage_errors(*kinds: type[BaseException]) -> None:
    """Have these errors, raised by a send method, count as outages: they cost no signal an attempt."""
    _OUTAGES.extend(kind for kind in kinds if kind not in _OUTAGES)


def is_outage_error(error: BaseException | None) -> bool:
    """Whether the error means that something is away, and tells nothing about a signal."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, tuple(_OUTAGES)) and not isinstance(error, _OF_FILES)


#: Classes of SQLSTATE, and single ones, of a database that is away: resources, operator, read-only, idle for too long.
#: A connection that is lost is known without; class 08 on one that is not comes from a trigger.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY = ("53", "57P", "25006", "25P03")

#: Time limits, locks, and races: later, it may go.
_LATE = ("57014", "55P03", "40")


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of an error of the database; empty where it has none."""
    cause = getattr(error, "orig", None)
    # psycopg2 calls it pgcode, other drivers sqlstate.
    return getattr(cause, "pgcode", None) or getattr(cause, "sqlstate", None) or ""


def is_away(error: BaseException) -> bool:
    """Whether the database is away, or cannot write at the moment: it tells nothing about a row."""
    if isinstance(error, DBAPIError):
        code = sqlstate(error)
        if error.connection_invalidated or code.startswith(_AWAY):
            return True
        # An error that the server did not send: the connection failed, and the driver has not called it lost.
        return not code and isinstance(error, (OperationalError, InterfaceError))
    return isinstance(error, (PoolTimeoutError, ResourceClosedError, PendingRollbackError))


def is_late(error: BaseException) -> bool:
    """Whether the database ran into a time limit, a lock or a race: later, the same may go well."""
    return sqlstate(error).startswith(_LATE)


def is_of_schema(error: BaseException) -> bool:
    """Whether something is missing or closed to this login (class 42): most often that concerns every row."""
    return sqlstate(error).startswith("42")


def sender_failure(error: BaseException, signal: Any) -> Outcome:
    """The outcome of a single signal whose send method raised something that says nothing of outcomes."""
    if is_outage_error(error):
        return Outcome(OutcomeKind.UNKNOWN, error_text(error, [signal]))
    return Outcome(OutcomeKind.UNKNOWN, error_text(error, [signal]), cause="error")


def error_text(error: BaseException, signals: Iterable[Any] = ()) -> str:
    """An error in one line: its class, and its text without the values of these signals."""
    # A database error's own text has the statement with its parameters; the driver's first line has neither.
    cause = getattr(error, "orig", None) if isinstance(error, DBAPIError) else None
    try:
        text = next((line for line in str(cause or error).strip().splitlines() if line.strip()), "")
    except Exception:  # noqa: BLE001 - an application's exception may fail even at this
        text = "(its text cannot be had)"
    text = without_values(text, signals)[:LONGEST_TEXT]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def without_values(text: str, signals: Iterable[Any]) -> str:
    """The text with ``***`` in the place of each word that the signals' columns hold, whole or as a part of them."""
    held = ""
    for signal in signals:
        for value in getattr(signal, "__dict__", {}).values():
            held += "".join(f"{shown}\n" for shown in _shown(value))
            if len(held) > MOST_COMPARED:
                return "(left out: there is too much data that it could show)"
    return _WORD.sub(lambda word: "***" if word[0] in held else word[0], text)


def _shown(value: object) -> Iterator[str]:
    """The texts that a value may show as, or in."""
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
