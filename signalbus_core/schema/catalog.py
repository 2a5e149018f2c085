"""Queries of the system catalogs about transactions, tables, their owners and privileges. They change nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ARRAY, Table, Text, bindparam, text
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..failures import error_text
from ..model.contract import SignalSpec, shared_table
from .quoting import quoted
from .signal_id import SIGNAL_ID, signal_id_sql

logger = logging.getLogger("signalbus")


def has_written(connection: Connection) -> bool:
    """Whether the transaction of this connection has changed anything so far, where the database records it."""
    if connection.dialect.name == "postgresql":
        # The first change or row lock assigns a transaction id; a read-only transaction has none.
        return bool(connection.scalar(text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")))
    if connection.dialect.name == "sqlite":
        return bool(getattr(connection.connection.dbapi_connection, "in_transaction", False))
    return False


def table_problem(connection: Connection, spec: SignalSpec) -> str | None:
    """Why the model's table cannot serve as an outbox, with the remedy; None when it can.

    It is missing, is not a table, has no key, lacks a column that the model reads, its schema is translated, or other
    tables inherit from it.
    """
    return table_problems(connection, [spec]).get(spec.name)


def table_problems(connection: Connection, specs: Sequence[SignalSpec]) -> dict[str, str]:
    """:func:`table_problem` of each model that has one, by model name: one query for all models.

    :param specs: models of one database.
    """
    problems = {spec.name: problem for spec in specs if (problem := _translated(connection, spec))}
    rest = [spec for spec in specs if spec.name not in problems]
    if connection.dialect.name == "postgresql":
        return problems | _postgresql_table_problems(connection, rest)
    return problems | {spec.name: problem for spec in rest if (problem := _inspected_problem(connection, spec))}


def _inspected_problem(connection: Connection, spec: SignalSpec) -> str | None:
    inspector = sqlalchemy_inspect(connection)
    table = spec.table
    if table.name in inspector.get_view_names(schema=table.schema):
        return _problem(spec, "is a view", "Point the model at the table itself.")
    if not inspector.has_table(table.name, schema=table.schema):
        return _problem(spec, "does not exist", _CREATE_IT)
    if not inspector.get_pk_constraint(table.name, schema=table.schema)["constrained_columns"]:
        return _problem(spec, "has no primary key", _GIVE_IT_A_KEY)
    there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
    return _lacking(spec, [name for name in _columns(spec) if name not in there])


def table_conflicts(
    connection: Connection, specs: Sequence[SignalSpec], elsewhere: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What makes a table's rows appear twice, or lets two models send them, by model name: one query for all models.

    Other tables inherit from it, or two models have it under two names, or one has a partition of it. A relay repeats
    this query, because all may change while it runs. Tables that do not exist have no conflicts.

    :param specs: models of one database.
    :param elsewhere: the :func:`table_owners` of other binds, which may be the same database.
    """
    if connection.dialect.name != "postgresql" or not specs:
        return {}
    conflicts: dict[str, str] = {}
    owners = dict(elsewhere or {})
    found = _find_tables(connection, specs)
    for spec, row in found:
        if problem := _inheritance_problem(spec, row.children):
            conflicts[spec.name] = problem
        if row.identity is not None and (owner := owners.setdefault(row.identity, spec.name)) != spec.name:
            conflicts[spec.name] = conflicts[owner] = _shared(spec, owner)
    for spec, row in found:
        for owner in {owners[parent] for parent in row.partition_of if parent in owners}:
            conflicts[spec.name] = conflicts[owner] = _shared(spec, owner)
    # Models of other binds are told of with theirs.
    return {spec.name: conflicts[spec.name] for spec in specs if spec.name in conflicts}


def _shared(spec: SignalSpec, owner: str) -> str:
    return shared_table(spec.table.fullname, *sorted((owner, spec.name)))


def table_owners(connection: Connection, specs: Sequence[SignalSpec]) -> dict[str, str]:
    """The name of the model of each table, by what identifies the table on every server."""
    if connection.dialect.name != "postgresql" or not specs:
        return {}
    return {row.identity: spec.name for spec, row in _find_tables(connection, specs) if row.identity is not None}


def _find_tables(connection: Connection, specs: Sequence[SignalSpec]) -> list[tuple[SignalSpec, Any]]:
    rows = connection.execute(_CONFLICTS, {"names": [quoted(spec.table) for spec in specs]}).all()
    return list(zip(specs, rows, strict=True))


def _translated(connection: Connection, spec: SignalSpec) -> str | None:
    # Queries of the catalog are by name, and would be about another table than the statements of SQLAlchemy.
    translations = connection.get_execution_options().get("schema_translate_map") or {}
    # The tables of Signalbus are in the schema of the metadata.
    for schema, which in (
        (spec.table.schema, "is"),
        (spec.table.metadata.schema, "has a table signalbus_parked that is"),
    ):
        if translations.get(schema, schema) != schema:
            return _problem(
                spec,
                f"{which} translated to the schema {translations[schema]!r} by schema_translate_map, which relays do "
                "not follow",
                "Name the schema in the model (__table_args__), or have the login's search_path begin with it.",
            )
    return None


_CREATE_IT = "Create it with a migration or db.create_all()."
_GIVE_IT_A_KEY = "Without one, a signal cannot be deleted alone. Add a primary key to the table."

# Partitions also inherit, but under one key of the whole table. Foreign tables as partitions allow no such key.
_CHILDREN = """
    (SELECT string_agg(CAST(CAST(i.inhrelid AS regclass) AS text), ', ' ORDER BY i.inhrelid)
     FROM pg_inherits i JOIN pg_class child ON child.oid = i.inhrelid
     WHERE i.inhparent = c.oid AND NOT child.relispartition)
"""

#: A unique index, not partial, whose columns are all not null and all part of the model's key.
_TABLE_FACTS = text(
    f"""
    SELECT c.relkind::text,
           EXISTS (
               SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                 AND (SELECT bool_and(coalesce(a.attnotnull AND a.attname = ANY(g.key), false))
                      FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
                      LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                      WHERE k.position <= i.indnkeyatts)
           ),
           ARRAY(
               SELECT m.name FROM unnest(g.columns) WITH ORDINALITY AS m(name, position)
               WHERE NOT EXISTS (
                   SELECT FROM pg_attribute a
                   WHERE a.attrelid = c.oid AND a.attname = CAST(m.name AS name) AND NOT a.attisdropped
               )
               ORDER BY m.position
           ),
           {_CHILDREN}
    FROM jsonb_to_recordset(CAST(:tables AS jsonb)) AS g(position int, name text, key text[], columns text[])
    LEFT JOIN pg_class c ON c.oid = to_regclass(g.name)
    ORDER BY g.position
    """
)

# No two servers start at the same microsecond, and every login may read when theirs did.
_SERVER = "concat(pg_postmaster_start_time() AT TIME ZONE 'UTC', ' ', current_database(), ' ')"
_CONFLICTS = text(
    f"""
    SELECT {_SERVER} || c.oid AS identity, {_CHILDREN} AS children,
           ARRAY(SELECT {_SERVER} || CAST(relid AS oid) FROM pg_partition_ancestors(c.oid) WHERE relid <> c.oid)
             AS partition_of
    FROM unnest(:names) WITH ORDINALITY AS g(name, position)
    LEFT JOIN pg_class c ON c.oid = to_regclass(g.name)
    ORDER BY g.position
    """
).bindparams(bindparam("names", type_=ARRAY(Text)))

_RELATION_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}


def _postgresql_table_problems(connection: Connection, specs: Sequence[SignalSpec]) -> dict[str, str]:
    tables = [
        {
            "position": position,
            "name": quoted(spec.table),
            "key": [column.name for column in spec.primary_key],
            "columns": _columns(spec),
        }
        for position, spec in enumerate(specs)
    ]
    rows = connection.execute(_TABLE_FACTS, {"tables": json.dumps(tables)}).all() if specs else []
    judged = ((spec.name, _judge(spec, *row)) for spec, row in zip(specs, rows, strict=True))
    return {name: problem for name, problem in judged if problem is not None}


def _judge(
    spec: SignalSpec, kind: str | None, has_key: bool, lacking: Sequence[str], children: str | None
) -> str | None:
    if kind is None:
        return _problem(spec, "does not exist", _CREATE_IT)
    if kind not in ("r", "p"):
        return _problem(spec, f"is {_RELATION_KINDS.get(kind, 'no table')}", "Point the model at the table itself.")
    if not has_key:
        return _problem(spec, "has no primary key that matches the model's", _GIVE_IT_A_KEY)
    return _inheritance_problem(spec, children) or _lacking(spec, lacking)


def _inheritance_problem(spec: SignalSpec, children: str | None) -> str | None:
    if children is None:
        return None
    return _problem(
        spec,
        f"has tables that inherit from it, {children}: their rows are read and deleted with its own, and may have the "
        "same keys",
        "Make them partitions, or say ALTER TABLE ... NO INHERIT "
        f"{quoted(spec.table)} and give each a signal model of its own.",
    )


def _columns(spec: SignalSpec) -> list[str]:
    """The columns of the table that the model reads."""
    mapped = set(spec.mapper.columns.values())
    return [column.name for column in spec.table.columns if column in mapped]


def _lacking(spec: SignalSpec, names: Sequence[str]) -> str | None:
    """Why no row can be read: the table lacks a column that the model reads. None when it lacks none."""
    if not names:
        return None
    if list(names) == [SIGNAL_ID]:
        recipe = "; ".join(signal_id_sql(spec.table))
        remedy = f"Migrate it before its code: {recipe}. Or have the model opt out by {SIGNAL_ID} = None."
    else:
        remedy = "Migrate it before its code."
    return _problem(spec, f"lacks {', '.join(names)}, which the model reads", remedy)


def _problem(spec: SignalSpec, what: str, remedy: str) -> str:
    return f"The table {spec.table.fullname!r} of signal model {spec.name} {what}. {remedy}"


def table_privileges(connection: Connection, table: Table) -> frozenset[str] | None:
    """Which of SELECT, INSERT, UPDATE and DELETE this login has on the table; None when it is missing."""
    if connection.dialect.name != "postgresql":
        return None
    row = connection.execute(_PRIVILEGES, {"name": quoted(table)}).one_or_none()
    return None if row is None else frozenset(word for word, granted in row._mapping.items() if granted)


def privileges_problem(connection: Connection, table: Table, needed: Sequence[str]) -> str | None:
    """Why the table cannot be used: it, or a privilege on it, is missing. None when it can."""
    granted = table_privileges(connection, table)
    if granted is None:
        return "does not exist"
    missing = [word for word in needed if word not in granted]
    return f"is closed to this login, which lacks {', '.join(missing)}" if missing else None


_PRIVILEGES = text(
    "SELECT has_table_privilege(oid, 'SELECT') AS \"SELECT\", has_table_privilege(oid, 'INSERT') AS \"INSERT\","
    " has_table_privilege(oid, 'UPDATE') AS \"UPDATE\", has_table_privilege(oid, 'DELETE') AS \"DELETE\""
    " FROM (SELECT to_regclass(:name)::oid AS oid) AS found WHERE oid IS NOT NULL"
)


def address(engine: Engine) -> URL:
    """The URL without the login: two binds may be one database with different users."""
    return engine.url.set(username=None, password=None)


def owners_elsewhere(
    specs: Sequence[SignalSpec], engines: Mapping[str | None, Engine], bind_key: str | None
) -> dict[str, str]:
    """The :func:`table_owners` of binds at other addresses, as far as their databases have the name of this one.

    A bind that is away has none: most likely it is not this database, which is not away.

    :param specs: all signal models.
    :param engines: of each bind key.
    """
    here = address(engines[bind_key])
    owners: dict[str, str] = {}
    for other in dict.fromkeys(spec.bind_key for spec in specs):
        there = address(engines[other])
        if there == here or there.database != here.database:
            continue
        try:
            with engines[other].connect() as connection:
                owners |= table_owners(connection, [spec for spec in specs if spec.bind_key == other])
        except SQLAlchemyError as error:
            logger.debug("The bind %s cannot be asked: %s", other, error_text(error))
    return owners
