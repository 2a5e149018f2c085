"""Tests a condition in the database, in a transaction that can change nothing."""

from __future__ import annotations

from sqlalchemy import ARRAY, Boolean, MetaData, Table, Text, bindparam, func, literal, literal_column, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError

from signalbus_core.lowlevel import BurstLimits, error_text, transaction

from ..catalog import TableFacts
from .where import called

#: The number of rows on which a condition is tested. Larger: more errors are found, and the test takes longer.
MOST_ROWS = 1000


def where_problem(engine: Engine, facts: TableFacts, where: str, limits: BurstLimits) -> str | None:
    """Why a condition cannot be used; None when it can.

    - PostgreSQL accepts it for this table, and evaluates it for the first rows within the time limits.
    - It calls no volatile function.
    """
    try:
        with transaction(engine, limits) as connection:
            connection.execute(text("SET TRANSACTION READ ONLY"))
            return _problem(connection, facts, where)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return f"{error_text(error).rstrip('.')}."


def _problem(connection: Connection, facts: TableFacts, where: str) -> str | None:
    table = Table(facts.name.name, MetaData(), schema=facts.name.schema)
    condition = literal_column(f"({where})", Boolean)
    connection.execute(select(literal(1)).select_from(table).where(condition).limit(0))
    volatile = connection.scalars(_VOLATILE, {"names": called(where)}).all()
    if volatile:
        return (
            f"the function {', '.join(volatile)} is volatile: what it answers may change from row to row. Use one that "
            "is stable, as now() is; a function of your own can be declared STABLE."
        )
    tried = select(condition.label("is_met")).select_from(table).limit(MOST_ROWS).subquery()
    try:
        connection.execute(select(func.count(tried.c.is_met)))
    except DataError as error:
        # The text of the error may hold the value of a column.
        return f"it cannot be told of each row whether it is met ({type(error.orig).__name__})."
    return None


# Which of several functions of one name is called is not known: a name is volatile only if all of them are.
_VOLATILE = text(
    """
    SELECT CAST(proname AS text) FROM pg_catalog.pg_proc
    WHERE proname = ANY(:names) GROUP BY proname HAVING bool_and(provolatile = 'v') ORDER BY 1
    """
).bindparams(bindparam("names", type_=ARRAY(Text)))
