"""What marks a row as sent instead of deleting it: assignments of SQL, and whether they can be used.

Invariant: no row is sent if it would be among the rows to be sent again after it was marked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError

from signalbus_core.lowlevel import POSITION, BurstLimits, error_text, sqlstate, transaction

from ..catalog import TableFacts
from ..names import TableName
from ..rules import TableRules
from .choice import quoted_name
from .where import condition, parts

#: The SQLSTATE of a write to a standby, which may be promoted.
READ_ONLY = "25006"

_ASSIGNMENT = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\W\d][\w$]*))\s*=(?P<value>.*)', re.DOTALL)


def assignments(given: object) -> tuple[tuple[str, str], ...]:
    """The columns and their values.

    :raises ValueError: these are no assignments.
    """
    found: list[tuple[str, str]] = []
    for part in parts(condition(given, "list of assignments", "status = 'SENT'")):
        one = _ASSIGNMENT.fullmatch(part)
        if one is None or not one["value"].strip():
            raise ValueError(f"COLUMN = VALUE is expected, for example status = 'SENT', not {part.strip()!r}")
        name = one["plain"].lower() if one["plain"] else one["quoted"].replace('""', '"')
        found.append((name, one["value"].strip()))
    names = [name for name, _ in found]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} is set twice")
    return tuple(found)


def done_problems(facts: TableFacts, rules: TableRules) -> Iterator[str]:
    """Why rows cannot be marked, as far as it is known without the database."""
    marks = rules.marks
    if marks is None:
        return
    known = [column.name for column in facts.columns]
    keys = [column.name for column in facts.key]
    for name, _ in assignments(marks):
        if name not in known:
            yield f"--done: there is no column {name!r}. There are {', '.join(known)}."
        elif name in keys:
            yield f"--done: the column {name!r} is a part of the primary key, by which a row is known."
        elif name in rules.order_by:
            yield f"--done: the column {name!r} is a part of the key by which rows are ordered."
        elif rules.order_by and name == POSITION:
            yield f"--done: the column {name!r} holds the place of a row in its order, which the database gives."
    if rules.keep_days is not None:
        yield (
            "--done: rows that are marked stay in the table, so --keep-days has nothing to keep. Give the one or the "
            "other; --done - deletes rows, whatever the preset says."
        )
    if rules.where is None:
        yield (
            "--done: rows that are marked stay in the table, and nothing leaves them out. Give --where with the rows "
            "that are to be sent, for example --where \"status = 'NEW'\"."
        )


def trial_problem(engine: Engine, facts: TableFacts, condition: str, marks: str, limits: BurstLimits) -> str | None:
    """Why rows cannot be marked: tried on the first row that is to be sent, and rolled back. None when they can."""
    try:
        with transaction(engine, limits) as connection:
            problem = _problem(connection, facts.name, condition, marks)
            connection.rollback()
            return problem
    except DBAPIError as error:
        if error.connection_invalidated or sqlstate(error) == READ_ONLY:
            raise
        # The text of the error may hold the value of a column.
        told = type(error.orig).__name__ if isinstance(error, DataError) else error_text(error)
        return f"{told.rstrip('.')}."


def _problem(connection: Connection, name: TableName, condition: str, marks: str) -> str | None:
    table = ".".join(quoted_name(part) for part in (name.schema, name.name) if part is not None)
    setting = ", ".join(f"{quoted_name(column)} = {value}" for column, value in assignments(marks))
    # The planner checks names, types and privileges, also where there is no row.
    connection.exec_driver_sql(_escaped(f"UPDATE {table} SET {setting} WHERE false"))
    row = connection.exec_driver_sql(
        _escaped(f"SELECT CAST(ctid AS text), CAST(tableoid AS bigint) FROM {table} WHERE {condition} LIMIT 1")
        + " FOR UPDATE SKIP LOCKED"
    ).first()
    if row is None:
        return None
    this = "ctid = CAST(:signalbus_ctid AS tid) AND tableoid = CAST(:signalbus_oid AS oid)"
    update = f"UPDATE {table} SET {setting} WHERE {this}"
    statement = text(_as_text(f"{update} RETURNING ({condition}) IS TRUE", "signalbus_ctid", "signalbus_oid"))
    stays = connection.execute(statement, {"signalbus_ctid": row[0], "signalbus_oid": row[1]}).scalar()
    if stays is None:
        return "the database reports no error, and changes no row; look for a trigger or a rule that suppresses it."
    if stays:
        return (
            "a row that is marked is still among those to be sent, and would be sent again and again. Have --done set "
            "what --where asks for."
        )
    return None


def _escaped(statement: str) -> str:
    return statement.replace("%", "%%")


def _as_text(statement: str, *names: str) -> str:
    """Escape the colons of SQL for ``text()``, but for those of our parameters."""
    ours = "|".join(names)
    return re.sub(rf":(?!(?:{ours})\b)", r"\\:", statement)
