"""Reads signals that were sent, in the order in which they were sent, and restores them as instances of their model.

Invariant: what of one signal cannot be restored keeps no other one from being restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from signalbus_core.lowlevel import (
    Restored,
    SentFilter,
    SentSignal,
    SignalSpec,
    error_text,
    is_lost,
    raise_if_stop,
    restore,
    sent,
)

from ..application.databases import Databases

#: Of so many signals, all but the rows is read together: finding where to go on costs a sort.
READ_TOGETHER = 20_000

T = TypeVar("T")


@dataclass(frozen=True)
class Built(Generic[T]):
    """What was made of a signal that was sent.

    :param problem: why nothing was.
    """

    sent: SentSignal
    made: T | None
    problem: str | None = None


def renamed_columns(databases: Databases, spec: SignalSpec) -> list[str]:
    """What looks as if a column was renamed since rows were kept: they have one less and one more than the model.

    The signals are restored all the same, with NULL for the column that their rows lack.
    """
    with databases.rolled_back(spec.bind_key) as connection:
        rows = sent.names_of_rows(connection, spec)
    columns = {column.name for column in spec.table.columns}
    return [
        f"the rows of {count:,} have {_listed(names - columns)}, and not {_listed(columns - names)}: if a column was "
        "renamed, its value is missing from their messages"
        for names, count in rows
        if names - columns and columns - names
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def signals_in_order(databases: Databases, spec: SignalSpec, chosen: SentFilter) -> Iterator[SentSignal]:
    """Signals in the order in which they were sent, without their rows.

    :param chosen: with the key as the database writes it.
    """
    after: SentSignal | None = None
    while True:
        with databases.rolled_back(spec.bind_key) as connection:
            found = sent.first_sent(connection, spec, chosen, after, READ_TOGETHER)
        yield from found
        if len(found) < READ_TOGETHER:
            return
        after = found[-1]


def in_portions(signals: Iterator[SentSignal], most: int) -> Iterator[list[SentSignal]]:
    """The signals in parts of at most so many, of which none has a key twice."""
    portion: dict[str, SentSignal] = {}
    for one in signals:
        if one.key in portion or len(portion) >= most:
            yield list(portion.values())
            portion = {}
        portion[one.key] = one
    if portion:
        yield list(portion.values())


def built(
    begin: Callable[[], AbstractContextManager[Session]],
    spec: SignalSpec,
    signals: Sequence[SentSignal],
    build: Callable[[SentSignal, Any], T],
) -> list[Built[T]]:
    """Restore signals of which none has a key twice, and make something of each; by halves, where that fails.

    :param begin: begins a session that writes nothing.
    :param build: is given the signal and its instance. What it raises is the problem of this signal.
    :raises sqlalchemy.exc.SQLAlchemyError: the database is away.
    """
    with begin() as session:
        try:
            found = restore(session, spec, signals)
        except BaseException as error:  # noqa: BLE001 - the types of the application's columns may raise anything
            _raise_if_away(error)
            problem = f"its row cannot be restored ({_name(error)})"
        else:
            results = [_built(one, found.get(one.place), build) for one in signals]
            if len(signals) == 1 or _is_usable(session, spec):
                return results
            # The code of one of them has broken the transaction of all.
            problem = ""
    if len(signals) == 1:
        return [Built(signals[0], None, problem)]
    half = len(signals) // 2
    return built(begin, spec, signals[:half], build) + built(begin, spec, signals[half:], build)


def _built(one: SentSignal, found: Restored | None, build: Callable[[SentSignal, Any], T]) -> Built[T]:
    if found is None:
        return Built(one, None, "it is not kept any more")
    if found.lacking:
        names = ", ".join(found.lacking)
        return Built(one, None, f"its row has no {names}, which may not be NULL: was the column added, or renamed?")
    try:
        return Built(one, build(one, found.signal))
    except BaseException as error:  # noqa: BLE001 - the application's code raises what it likes
        _raise_if_away(error)
        return Built(one, None, error_text(error, [found.signal]))


def _is_usable(session: Session, spec: SignalSpec) -> bool:
    try:
        session.connection(bind_arguments={"mapper": spec.mapper}).exec_driver_sql("SELECT 1")
    except SQLAlchemyError as error:
        _raise_if_away(error)
        return False
    return True


def _raise_if_away(error: BaseException) -> None:
    """Raise what is no fault of a signal: a request to stop, and a database that is away."""
    raise_if_stop(error)
    if is_lost(error):
        raise error


def _name(error: BaseException) -> str:
    return type(getattr(error, "orig", None) or error).__name__
