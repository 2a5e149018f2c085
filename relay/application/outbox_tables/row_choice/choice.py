"""The columns that say which rows are sent: those with a time, and those that need a rule and have none. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from shlex import quote

from sqlalchemy.dialects import postgresql

from ..catalog import ColumnFacts, TableFacts
from ..field_types import INTEGERS, MOMENTS, shown
from ..rules import TableRules
from .state_columns import Meaning, StateColumn, state_columns


def with_send_after(rules: TableRules, column: ColumnFacts | None) -> TableRules:
    """The rules, where a column is mapped to the time before which a row is not sent: one more of ``--not-before``."""
    if column is None or column.name in rules.not_before:
        return rules
    return replace(rules, not_before=(*rules.not_before, column.name))


def schedule_columns(facts: TableFacts, rules: TableRules) -> tuple[ColumnFacts, ...]:
    """The columns with a time before which a row is not sent."""
    return tuple(one for one in facts.columns if one.name in rules.not_before and one.type_name in MOMENTS)


def not_before_problems(facts: TableFacts, rules: TableRules) -> Iterator[str]:
    """The problems of the not-before columns."""
    known = {column.name: column for column in facts.columns}
    for name in rules.not_before:
        if name not in known:
            yield f"--not-before {name}: there is no such column. There are {', '.join(known)}."
        elif known[name].type_name not in MOMENTS:
            example = _example(StateColumn(known[name], Meaning.NOT_BEFORE))
            kinds = f"it is of type {known[name].shown_type}; {shown(MOMENTS)} is expected"
            yield f"--not-before {name}: {kinds}. --where says it for other types, for example --where {example}."


def columns_without_rule(
    facts: TableFacts, rules: TableRules, used: Collection[str]
) -> tuple[tuple[StateColumn, ...], tuple[StateColumn, ...]]:
    """The state columns without a rule; and the not-before columns that the given condition does not name.

    A not-before rule does not say which rows were sent already, so it covers only its own column.

    :param used: the names of the columns that are fields of the message.
    """
    if rules.all_rows:
        return (), ()
    found = tuple(one for one in state_columns(facts.columns, used) if one.column.name not in rules.not_before)
    if rules.where is None:
        return found, ()
    times = (one for one in found if one.meaning is Meaning.NOT_BEFORE)
    return (), tuple(one for one in times if one.column.name.lower() not in rules.where.lower())


def text_of_missing_rule(one: StateColumn, counted: str) -> str:
    """Why a table cannot be relayed without a rule for a column, and the options for that rule.

    :param counted: the rows that it concerns.
    """
    name = one.column.name
    text = (
        f"its column {name!r} looks like {one.meaning.value} ({counted}), and nothing says which rows are to be sent. "
    )
    if one.meaning is Meaning.NOT_BEFORE and one.column.type_name in MOMENTS:
        return f"{text}--not-before {name} sends each when its time has come, --all-rows sends all at once."
    if one.meaning is Meaning.POSITION:
        return f"{text}--all-rows sends all, and deletes them, also for those readers."
    return (
        f"{text}--where CONDITION says it, for example --where {_example(one)}; --all-rows sends all, and deletes them."
    )


def passed_over_text(one: StateColumn) -> str:
    """The not-before column that a condition does not name, and what to do."""
    name = one.column.name
    remedy = f"--not-before {name} has each row wait for its time" if one.column.type_name in MOMENTS else ""
    remedy = remedy or f"Add it to the condition: {_example(one)}"
    looks = f"its column {name!r} looks like {one.meaning.value}"
    return f"{looks}, which --where does not name: rows go at once. {remedy}."


def _example(one: StateColumn) -> str:
    """An example of a condition on such a column, quoted for a shell."""
    name, kind = quoted_column(one.column), one.column.type_name
    if one.meaning is Meaning.NOT_BEFORE:
        return quote(f"{name} <= now()" if kind in MOMENTS else f"to_timestamp({name}) <= now()")
    if one.meaning is Meaning.READY:
        return quote(name)
    if one.meaning is not Meaning.STATE:
        return quote(f"{name} IS NULL")
    if kind == "bool":
        return quote(f"NOT {name}")
    # In double quotes where that is readable, as for nearly all names.
    text = f"{name} = 0" if kind in INTEGERS else f"{name} = 'NEW'"
    return quote(text) if '"' in text else f'"{text}"'


def quoted_column(column: ColumnFacts) -> str:
    """A column in SQL."""
    return _PREPARER.quote(column.name)


_PREPARER = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]
