"""Has the server plan statements on keys before any signal is sent: one that it refuses would fail for every signal.

A model may declare a key with another type than its column has. Such a signal is sent and deleted by the id of its
row, but PostgreSQL does not compare an enum with a text: when it fails, that cannot be recorded, and it is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Text, literal_column, null, select, true
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.sql import Select

from ...failures import error_text, sqlstate
from ...model.contract import SignalSpec
from ..keys import has_integer_key, has_loadable_key, is_from, key_from_text, key_rows, text_of_key, whole_key
from ..templates import filled

#: Classes of SQLSTATE by which the server refuses a statement: its syntax and types, a value, a missing feature.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_REFUSED = ("42", "22", "0A")

#: A privilege that is missing, and a table: not the fault of the key.
_OF_TABLE = ("42501", "42P01")


def key_problems(connection: Connection, specs: Sequence[SignalSpec]) -> dict[str, str]:
    """Why signals of these models cannot be found by their keys, with the remedy, by model name.

    One statement for all models, unless one has a problem. To be called in a transaction.

    :param specs: models of one database.
    :raises sqlalchemy.exc.DBAPIError: it is not known: a table is locked, or the database is unavailable.
    """
    if connection.dialect.name != "postgresql" or not specs:
        return {}
    try:
        texts = [filled(spec, connection.dialect, "keys", lambda one: _planned(one, connection)) for spec in specs]
        with connection.begin_nested():
            connection.exec_driver_sql(" UNION ALL ".join(texts))
    except (DBAPIError, CompileError) as error:
        if isinstance(error, DBAPIError) and not sqlstate(error).startswith(_REFUSED):
            raise
        if len(specs) == 1:
            return {} if sqlstate(error) in _OF_TABLE else {specs[0].name: _problem(specs[0], error)}
    else:
        return {}
    half = len(specs) // 2
    return key_problems(connection, specs[:half]) | key_problems(connection, specs[half:])


def _planned(spec: SignalSpec, connection: Connection) -> Select[tuple[int]]:
    return select(literal_column("1")).where(_every_use(spec, connection.dialect).exists())


def _every_use(spec: SignalSpec, dialect: Dialect) -> Select[Any]:
    """A statement on PostgreSQL that uses keys in all ways of the module keys, and reads no row.

    It fails where one of these fails for each row: where the type of a column is another than the model's, and the
    server does not compare the two.
    """
    given = key_rows(spec, None)
    uses = [
        whole_key(spec).in_(select(*given.c)),
        *(part == one for part, one in zip(spec.primary_key, given.c, strict=True)),
        text_of_key(spec) == literal_column("''"),
        *has_loadable_key(spec, dialect),
        *([is_from(spec, literal_column("0"))] if has_integer_key(spec) else []),
    ]
    columns = key_from_text(spec, sql_cast(null(), Text))
    return select(*columns).select_from(spec.table.join(given, true())).where(*uses).limit(0)


def _problem(spec: SignalSpec, error: Exception) -> str:
    columns = ", ".join(f"{column.name} ({type(column.type).__name__})" for column in spec.primary_key)
    return (
        f"The table {spec.table.fullname!r} of signal model {spec.name} has a key whose type the database does not "
        f"compare with the model's, {columns}: a failed signal could be neither recorded nor found again "
        f"({error_text(error)}). Give both the same type: declare the column in the model as it is, or alter it."
    )
