"""Locks the signals of a model with scheduled ones: those that are sent at once, and those whose time has come.

Each of the two gets half of a burst at least, so that neither keeps the other waiting, however many there are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from ..model.contract import SignalSpec
from ..sql.keys import Key
from ..sql.lock_rows import lock_signals
from ..sql.rows import Row
from ..sql.schedule.conditions import Part, is_divided
from ..sql.schedule.peek import peek
from ..sql.selection import Choice


class Taken(NamedTuple):
    """Signals that are locked and loaded.

    :param loaded: each with its row.
    :param is_cut: there are more, which were left out.
    :param lowest: the key of the first one in the order of the key; None when there is none.
    :param next_seconds: until the next signal is due; None when none is known.
    """

    loaded: list[tuple[Any, Row]]
    is_cut: bool
    lowest: Key | None
    next_seconds: float | None = None


def take(
    session: Session,
    spec: SignalSpec,
    limit: int,
    choice: Choice,
    most_bytes: int,
    options: Mapping[str, str],
    toss: Callable[[], int] = lambda: random.getrandbits(1),
) -> Taken:
    """Lock and load up to ``limit`` of the chosen signals that may be sent now.

    :param most_bytes: no more is loaded than these, and the row that passes them, of each part.
    :param options: execution options of each statement.
    :param toss: 0 or 1, to say which part has the odd place of a burst.
    """
    if (
        choice.only is not None
        or choice.part is not Part.ALL
        or not is_divided(spec, session.get_bind(spec.mapper).dialect)
    ):
        loaded, is_cut = lock_signals(session, spec, limit, choice, most_bytes, options)
        return Taken(loaded, is_cut, _first_key(loaded))
    known = peek(session, spec, choice.leave_out, options)
    share = (limit + toss()) // 2 if known.has_due else limit
    first: list[tuple[Any, Row]] = []
    due: list[tuple[Any, Row]] = []
    is_cut = False
    at_once = replace(choice, part=Part.AT_ONCE)
    if share:
        first, is_cut = lock_signals(session, spec, share, at_once, most_bytes, options)
    if known.has_due and len(first) < limit and not is_cut:
        of_time = replace(choice, part=Part.DUE, start=None)
        due, is_cut = lock_signals(session, spec, limit - len(first), of_time, most_bytes, options)
    if not share and not due:
        # The due signals of a burst of one are excluded, or locked elsewhere, and do not keep the others waiting.
        first, is_cut = lock_signals(session, spec, limit, at_once, most_bytes, options)
        share = limit
    is_full = len(first) == share < limit
    return Taken([*first, *due], is_cut or is_full, _first_key(first), known.next_seconds)


def _first_key(loaded: list[tuple[Any, Row]]) -> Key | None:
    return loaded[0][1].key if loaded else None
