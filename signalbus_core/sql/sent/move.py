"""The statement that moves the rows of sent signals into ``signalbus_sent``: it deletes and inserts in one.

A row is kept as the text of each of its columns, in PostgreSQL's own format: read as the type of its column again, it
gives the same value, which JSON alone does not (a JSON null, minus zero, a type with its own JSON).

https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Column,
    Date,
    DateTime,
    Insert,
    Text,
    bindparam,
    column,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import delete as sql_delete
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ColumnElement, FromClause
from sqlalchemy.sql.selectable import TableValuedAlias
from sqlalchemy.types import UserDefinedType

from ...model.contract import SignalSpec
from ...schema.own_tables import SENT
from ...schema.quoting import PLAIN, quoted
from ..keys import Key, given_keys, key_arrays, text_of_key
from ..rows import row_id
from ..transaction import LOOK_UP_CTIDS, LOOK_UP_KEYS, execute_with

#: So many statements are cached, one for each model.
KEPT_STATEMENTS = 1024

#: The savepoint before the move, so that the rows stay locked when it fails.
SAVEPOINT = "SAVEPOINT signalbus_move"
BACK = "ROLLBACK TO SAVEPOINT signalbus_move"

#: The text of a value must not depend on settings of the session: shortest exact numbers, intervals with all signs.
EXACT_TEXTS = (
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL intervalstyle = postgres",
    "SET LOCAL datestyle = ISO",
    "SET LOCAL bytea_output = hex",
)

_PARAMETERS = ("message_id", "exchange", "routing_key", "more_messages")


class Kept(NamedTuple):
    """What is kept of a signal beside its row.

    :param more: the messages after the first as a JSON array; None when there are none.
    """

    message_id: str | None
    exchange: str | None
    routing_key: str | None
    more: str | None


NOTHING_KNOWN = Kept(None, None, None, None)


def move_signals(connection: Connection, spec: SignalSpec, keys: Sequence[Key], kept: Sequence[Kept]) -> int:
    """Move the signals with these integer keys; return how many rows were moved.

    :param kept: of each.
    """
    values = {**given_keys(spec, keys), **_values(kept)}
    settings = (SAVEPOINT, *LOOK_UP_KEYS, *EXACT_TEXTS)
    return execute_with(connection, settings, _moving_keys(spec), values).rowcount


def move_where(
    connection: Connection,
    spec: SignalSpec,
    conditions: Collection[ColumnElement[bool]],
    kept: Mapping[str, Kept],
) -> int:
    """Move the rows with all of these conditions; return how many they were.

    :param kept: by the id of the row. Of others only the row is kept.
    """
    known = _unnested(
        "signalbus_known", "signalbus_row", sql_cast(bindparam("signalbus_rows", type_=_Texts()), ARRAY(Text))
    )
    gone = (
        sql_delete(spec.table)
        .where(*conditions)
        .returning(*_returned(spec), row_id(connection.dialect).label("signalbus_row"))
    )
    statement = _moving(spec, gone, known)
    values = {"signalbus_rows": list(kept), **_values(list(kept.values()))}
    return execute_with(connection, (SAVEPOINT, *LOOK_UP_CTIDS, *EXACT_TEXTS), statement, values).rowcount


@lru_cache(KEPT_STATEMENTS)
def _moving_keys(spec: SignalSpec) -> Insert:
    [key] = spec.primary_key
    [keys] = key_arrays(spec, [None])
    # The keys and what is kept of each are unnested together.
    rows = _unnested("signalbus_given", "part_0", keys)
    gone = sql_delete(spec.table).where(key == rows.c.part_0)
    return _moving(spec, gone.returning(*_returned(spec), *(rows.c[name].label(name) for name in _PARAMETERS)))


def _moving(spec: SignalSpec, gone: Any, known: TableValuedAlias | None = None) -> Insert:
    """Insert what a delete returns."""
    found = gone.cte("signalbus_gone")
    source: FromClause = found
    kept: Any = found.c
    if known is not None:
        kept, source = known.c, found.outerjoin(known, found.c.signalbus_row == known.c.signalbus_row)
    until = sql_cast(func.timezone("UTC", func.now()), Date) + literal_column(str(spec.keep_days))
    columns: dict[str, Any] = {
        "keep_until": until,
        "sent_at": func.statement_timestamp(),
        "written_at": found.c.signalbus_written_at,
        "table_name": literal(spec.table.fullname, Text),
        "key": found.c.signalbus_key,
        "row": found.c.signalbus_columns,
        **{name: kept[name] for name in _PARAMETERS},
    }
    columns["more_messages"] = sql_cast(columns["more_messages"], JSON)
    return insert(SENT.of(spec)).from_select(list(columns), select(*columns.values()).select_from(source))


def _returned(spec: SignalSpec) -> list[ColumnElement[Any]]:
    written_at = spec.written_at_column
    return [
        text_of_key(spec).label("signalbus_key"),
        sql_cast(null() if written_at is None else written_at, DateTime(timezone=True)).label("signalbus_written_at"),
        row_as_json(spec).label("signalbus_columns"),
    ]


def row_as_json(spec: SignalSpec) -> ColumnElement[Any]:
    """A row as a JSON object: of each column its text."""
    table, quote = quoted(spec.table), PLAIN.identifier_preparer.quote
    texts = ", ".join(f"CAST({table}.{quote(one.name)} AS text) AS {quote(one.name)}" for one in columns_of(spec))
    # Of a subquery, because a function takes at most a hundred arguments.
    return literal_column(f"(SELECT to_json(signalbus_texts) FROM (SELECT {texts}) AS signalbus_texts)", JSON())


def columns_of(spec: SignalSpec) -> list[Column[Any]]:
    """The columns that are kept: those of the model's table."""
    return list(spec.table.columns)


def _unnested(name: str, first: str, values: ColumnElement[Any]) -> TableValuedAlias:
    """Rows of an identifier and what is kept of it."""
    given = [sql_cast(bindparam(f"signalbus_{one}", type_=_Texts()), ARRAY(Text)) for one in _PARAMETERS]
    columns: list[Any] = [
        column(first, BigInteger if first == "part_0" else Text),
        *(column(one, Text) for one in _PARAMETERS),
    ]
    return func.unnest(values, *given).table_valued(*columns, name=name).render_derived()


class _Texts(UserDefinedType[Sequence[str | None]]):
    """An array of texts as one parameter. The driver would format each text of a list, in several times the time."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "text[]"

    def bind_processor(self, dialect: Dialect) -> Any:
        return lambda texts: "{" + ",".join([_element(one) for one in texts]) + "}"


@lru_cache(1024)
def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _values(kept: Sequence[Kept]) -> dict[str, list[str | None]]:
    return {f"signalbus_{name}": [one[place] for one in kept] for place, name in enumerate(_PARAMETERS)}
