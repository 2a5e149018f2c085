"""Which signals of a model a statement is about: the conditions for a choice of signals, and for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, not_, or_, select
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement, Select

from ..model.contract import SignalSpec
from .keys import Key, SignalRef, has_key, has_loadable_key, has_other_key, is_from, parts
from .parked import LeaveOut, leaving_out
from .rows import has_id
from .schedule.conditions import Part, may_be_sent


class Ring:
    """Where the next burst of a model begins among its keys, so that each has its turn."""

    def __init__(self) -> None:
        #: The last key of the latest burst, each column as text; None for the first key.
        self.after: tuple[str, ...] | None = None
        self._turn = False
        self._hidden: set[object] = set()

    def passes(self, hidden: Sequence[object]) -> bool:
        """Whether there may be signals behind these heads, which filters of the session hide: once round."""
        is_new = not self._hidden.issuperset(hidden)
        self._hidden = self._hidden.union(hidden) if is_new else set()
        return is_new

    def take_turn(self) -> bool:
        """Whether signals without a key come first this time."""
        self._turn = not self._turn
        return self._turn


@dataclass(frozen=True)
class Choice:
    """Which of a model's signals a burst may take.

    :param leave_out: which of the failed signals it skips.
    :param exclude: keys that it skips, and ids of rows: those of signals whose keys Python reads as others.
    :param passed_over: those of the excluded signals that hold back no later ones of their key.
    :param only: when given, it takes only these, as in ``exclude``.
    :param forgets: whether to delete the records of the signals that it sends, because some may have failed before.
    :param start: for models with a single integer key: the lowest key of the scan, except for keys in ``only``.
    :param ring: for models with an order: the key with which to begin, and where the next one begins.
    :param part: of the signals that are due, when that is a part of them.
    """

    leave_out: LeaveOut = LeaveOut.NOTHING
    exclude: tuple[SignalRef, ...] = ()
    only: tuple[SignalRef, ...] | None = None
    forgets: bool = False
    start: int | None = None
    ring: Ring | None = field(default=None, compare=False)
    part: Part = Part.ALL
    passed_over: tuple[SignalRef, ...] = ()


#: All signals.
EVERYTHING = Choice()


def count_pending(session: Session, spec: SignalSpec, limit: int | None) -> int:
    """How many signals are in the table and due; with a limit, counting stops there.

    All signals count, as in a relay: failed ones too, and those that filters of the session hide.
    """
    connection = session.connection(bind_arguments={"mapper": spec.mapper})
    counted = all_keys(spec).limit(limit).subquery()
    return connection.scalar(select(func.count()).select_from(counted)) or 0


def all_keys(spec: SignalSpec, part: Part = Part.ALL) -> Select[Any]:
    """The keys of all signals of a model that are due. To be run on a connection: a session may add its own filters."""
    return select(*spec.primary_key).select_from(spec.model).where(*spec.is_signal, *may_be_sent(spec, part))


def count_unloadable_keys(connection: Connection, spec: SignalSpec, limit: int) -> int:
    """How many signals no burst takes, because Python cannot represent their keys; counting stops at the limit."""
    loadable = has_loadable_key(spec, connection.dialect)
    if not loadable:
        return 0
    rows = select(*spec.primary_key).select_from(spec.model).where(not_(and_(*loadable)), *spec.is_signal).limit(limit)
    return connection.scalar(select(func.count()).select_from(rows.subquery())) or 0


def pending(spec: SignalSpec, dialect: Dialect, choice: Choice, statement: Select[Any]) -> Select[Any]:
    """Restrict a statement about a model to the chosen signals whose keys can be loaded."""
    statement = statement.where(*spec.is_signal, *may_be_sent(spec, choice.part))
    if choice.only is not None:
        keys, rows = _keys_and_rows(choice.only)
        return statement.where(or_(has_key(spec, dialect, keys), *([has_id(rows)] if rows else [])))
    statement = statement.where(*has_loadable_key(spec, dialect))
    if choice.start is not None:
        statement = statement.where(is_from(spec, choice.start))
    statement = statement.where(*is_none_of(spec, dialect, choice.exclude))
    return leaving_out(spec, choice.leave_out, statement)


def is_none_of(spec: SignalSpec, dialect: Dialect, refs: Sequence[SignalRef]) -> list[ColumnElement[bool]]:
    """The conditions that a row is none of these signals."""
    keys, rows = _keys_and_rows(refs)
    others = [has_other_key(spec, dialect, part) for part in parts(dialect, keys)]
    return [*others, has_id(rows, negated=True)] if rows else others


def _keys_and_rows(refs: Sequence[SignalRef]) -> tuple[list[Key], list[str]]:
    keys = [ref for ref in refs if not isinstance(ref, str)]
    return keys, [ref for ref in refs if isinstance(ref, str)]
