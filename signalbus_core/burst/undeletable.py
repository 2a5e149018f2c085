"""Finds the rows that the database does not let be deleted, by bisection under savepoints.

One row that a foreign key, a trigger or a deferred constraint keeps must not prevent the delete of the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import SimpleNamespace

from sqlalchemy import Text, select, text
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from ..errors import Outcome, OutcomeKind
from ..failures import error_text, is_away, is_late, is_of_schema
from ..model.contract import SignalSpec
from ..schema.quoting import quoted
from ..sql.delete_rows import delete_for_good
from ..sql.keys import has_key
from ..sql.rows import Row, has_id
from .result import FailedSignal, failed_row

#: After so many deletes in a row that hit a time limit, the cause is not a single row. More: longer bisection while a
#: table is locked; less: a few slow rows are mistaken for a locked table.
MOST_LATE_IN_A_ROW = 4

# Foreign keys that refer to the table are triggers too. The rows of a partitioned table are those of its partitions.
_CAN_KEEP_ROWS = text(
    """
    WITH tables AS (SELECT to_regclass(:name) AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass(:name)))
    SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid IN (SELECT oid FROM tables) AND tgtype & 8 <> 0)
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class IN (SELECT oid FROM tables) AND ev_type = '4')
    """
)

SUPPRESSED = (
    "the database reports no error, and keeps it; look for a trigger, a rule or a row-level security policy that "
    "suppresses the delete, or writes the row again"
)


UNMARKED = (
    "the update that marks it as sent leaves it among the rows to be sent; check --done and --where, and look for a "
    "trigger or a rule that changes the update"
)


def why_kept(spec: SignalSpec) -> str:
    """Why the database keeps a row without an error."""
    return UNMARKED if spec.done else SUPPRESSED


def table_can_keep_rows(connection: Connection, spec: SignalSpec) -> bool:
    """Whether the table has anything that may refuse the delete of single rows: a foreign key, a trigger, a rule."""
    if connection.dialect.name != "postgresql":
        return False
    # Any constraint may refuse the UPDATE that marks a row.
    return bool(spec.done) or bool(connection.scalar(_CAN_KEEP_ROWS, {"name": quoted(spec.table)}))


def rehearse(connection: Connection, spec: SignalSpec, rows: Sequence[Row]) -> tuple[FailedSignal, ...]:
    """Delete rows and roll back, to find out before anything is sent which of them cannot be deleted.

    Foreign keys, triggers and deferred constraints show here.

    :returns: those that cannot; none where the database cannot roll a delete back.
    :raises sqlalchemy.exc.SQLAlchemyError: no single row is the cause: for example, a privilege is missing.
    """
    if connection.dialect.name != "postgresql" or not rows:
        return ()
    attempt = partial(delete_for_good, connection, spec, is_locked=True)
    kept = delete_by_halves(connection, spec, rows, attempt, lambda: _taken_back(connection))
    errors = [error for _, _, error in kept if error is not None and is_of_schema(error)]
    if errors and len(errors) == len(rows):
        raise errors[0]
    verb = "marked as sent" if spec.done else "deleted"
    return tuple(
        failed_row(row, Outcome(OutcomeKind.INVALID, f"it is not sent, because it cannot be {verb}: {why}"))
        for row, why, _ in kept
    )


_Kept = tuple[Row, str, SQLAlchemyError | None]


def delete_by_halves(
    connection: Connection,
    spec: SignalSpec,
    rows: Sequence[Row],
    delete: Callable[[Sequence[Row]], list[Row]],
    savepoint: Callable[[], AbstractContextManager[object]],
) -> list[_Kept]:
    """Delete rows by bisection; return those that fail alone, each with the reason. They are as they were before.

    :raises sqlalchemy.exc.SQLAlchemyError: the database is unavailable, or the table is locked.
    """
    kept: list[_Kept] = []
    late = 0
    queue = deque([rows])
    while queue:
        part = queue.popleft()
        try:
            with savepoint():
                if left := delete(part):
                    raise _KeptError(left)
        except _KeptError as error:
            late = 0
            # One that a trigger has given another key is found by bisection.
            mine = part if len(part) == 1 else [row for row in part if row.key in error.keys]
            kept += [(row, why_kept(spec), None) for row in mine]
            if not mine:
                queue += _halves(part)
            elif len(mine) < len(part):
                queue.append([row for row in part if row.key not in error.keys])
        except SQLAlchemyError as error:
            late = late + 1 if is_late(error) else 0
            if is_away(error) or late >= MOST_LATE_IN_A_ROW:
                raise
            if len(part) > 1:
                queue += _halves(part)
            else:
                kept.append((part[0], _reason(connection, spec, part[0], error), error))
        else:
            late = 0
    return kept


class _KeptError(Exception):
    """The database keeps some of the rows without an error.

    What a trigger or a rule did to them instead is rolled back: a row that is written anew would be another signal.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.keys = {row.key for row in rows}
        super().__init__(self.keys)


def _halves(rows: Sequence[Row]) -> list[Sequence[Row]]:
    return [rows[: len(rows) // 2], rows[len(rows) // 2 :]]


def _reason(connection: Connection, spec: SignalSpec, row: Row, error: SQLAlchemyError) -> str:
    """The database's error text without the values of the row: a trigger's message may contain them."""
    columns = [sql_cast(column, Text).label(f"column_{number}") for number, column in enumerate(spec.table.columns)]
    here = has_id(row.ids) if row.ids else has_key(spec, connection.dialect, [row.key])
    try:
        with connection.begin_nested():
            held = connection.execute(select(*columns).where(here)).first()
    except SQLAlchemyError:
        return type(error).__name__
    return error_text(error, [SimpleNamespace(**({} if held is None else held._asdict()))])


@contextmanager
def _taken_back(connection: Connection) -> Iterator[None]:
    connection.execute(text("SAVEPOINT signalbus_rehearsal"))
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(text("ROLLBACK TO SAVEPOINT signalbus_rehearsal"))
            connection.execute(text("RELEASE SAVEPOINT signalbus_rehearsal"))
