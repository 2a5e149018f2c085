"""``signalbus-relay ddl``: the SQL of the database objects of Signalbus, for migrations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

import click
from sqlalchemy import MetaData, Table

from signalbus_core import (
    SignalBusError,
    autovacuum_sql,
    doorbell_sql,
    order_sql,
    parked_table_sql,
    paused_table_sql,
    relays_table_sql,
    scheduled_sql,
    signal_id_sql,
)
from signalbus_core.inbox import table_sql as inbox_table_sql
from signalbus_core.lowlevel import SENT, SignalSpec, parked_table_of, partitions_sql
from signalbus_core.rabbitmq import outbox_table_sql

from ...application.databases import by_bind
from ...application.outbox_tables.names import table_name
from ...config.click_options import fail, with_application
from ...text import comment, say_data, shell_word
from ..shared import load

#: What else an outbox table may have, and why.
OUTBOX_COMPANIONS = (
    ("doorbell {name}", "Inserts wake a sleeping relay"),
    ("autovacuum {name}", "The table stays small and quick"),
    ("parked", "Signals that cannot be sent are noted for all replicas"),
    ("paused", "Its signals can be held back"),
    ("relays", "The status page of each relay shows all of them"),
)


@click.group()
def ddl() -> None:
    """Print the SQL of what Signalbus keeps in the database, for migrations."""


@ddl.command("parked", epilog="Example: signalbus-relay ddl parked")
def ddl_parked() -> None:
    """The table of failed signals. db.create_all() and Alembic's autogenerate know it too."""
    say_data(parked_table_sql())


@ddl.command("outbox", epilog="Example: signalbus-relay ddl outbox orders_outbox > outbox.sql")
@click.argument("name")
@click.option("--scheduled", is_flag=True, help="With the column signalbus_send_after: rows that are sent later.")
def ddl_outbox(name: str, scheduled: bool) -> None:
    """A table whose rows are messages, for signalbus-relay run --table NAME, perhaps with its schema.

    It is the table of signalbus_core.rabbitmq.OutboxMessage.
    """
    [table] = _named([name])
    say_data(outbox_table_sql(table.name, table.schema, scheduled=scheduled))
    for command, purpose in OUTBOX_COMPANIONS:
        say_data(comment(f"{purpose}: signalbus-relay ddl {command.format(name=shell_word(name))}"))


@ddl.command("paused", epilog="Example: signalbus-relay ddl paused")
def ddl_paused() -> None:
    """The table of models that are paused. db.create_all() and Alembic's autogenerate know it too."""
    say_data(paused_table_sql())


@ddl.command("relays", epilog="Example: signalbus-relay ddl relays")
def ddl_relays() -> None:
    """The table in which relays tell of themselves, so that the page of one shows all.

    db.create_all() and Alembic's autogenerate know it too.
    """
    say_data(relays_table_sql())


@ddl.command("inbox", epilog="Example: signalbus-relay ddl inbox > inbox.sql")
@click.argument("name", default="signalbus_inbox")
def ddl_inbox(name: str) -> None:
    """The table in which consumers record the messages that they have processed, perhaps with another NAME.

    It is the table of signalbus_core.inbox.table(metadata).
    """
    [table] = _named([name])
    say_data(inbox_table_sql(table.name, table.schema))


@ddl.command("sent", epilog="Example: signalbus-relay ddl sent > sent.sql")
@click.option("--ahead", type=click.IntRange(1, 36_500), metavar="DAYS", help="Also its partitions for so many days.")
def ddl_sent(ahead: int | None) -> None:
    """The table of signals that were sent. db.create_all() and Alembic's autogenerate know it too.

    Relays make and drop its partitions, one for each day until which something is kept. For that they have to own the
    table. Where they may not, make partitions ahead, for longer than you keep what was sent.
    """
    say_data(SENT.sql())
    if ahead is not None:
        _print(partitions_sql(SENT.table(MetaData()), datetime.now(timezone.utc).date(), ahead))


@ddl.command("doorbell", epilog="Example: signalbus-relay ddl doorbell --app shop:create_app > doorbell.sql")
@click.argument("tables", nargs=-1)
@with_application
def ddl_doorbell(tables: tuple[str, ...], **given: Any) -> None:
    """The triggers that wake a sleeping relay: of these TABLES, or of all signal models of the application.

    The statements can be run again. db.create_all() runs them for the tables that it creates.
    """
    _print_for(tables, given, doorbell_sql)


@ddl.command("autovacuum", epilog="Example: signalbus-relay ddl autovacuum --app shop:create_app > autovacuum.sql")
@click.argument("tables", nargs=-1)
@with_application
def ddl_autovacuum(tables: tuple[str, ...], **given: Any) -> None:
    """The autovacuum settings that suit an outbox: of these TABLES, or of all signal models of the application.

    The statements can be run again. Without TABLES the table of failed signals is among them.
    """
    _print_for(tables, given, autovacuum_sql, lambda specs: [*_models(specs), parked_table_of(specs[0])])


@ddl.command("ids", epilog="Example: signalbus-relay ddl ids --app shop:create_app > ids.sql")
@click.argument("tables", nargs=-1)
@with_application
def ddl_ids(tables: tuple[str, ...], **given: Any) -> None:
    """The column signalbus_id, which names a row for ever: of these TABLES, or of all signal models of the application.

    The statements can be run again. They rewrite no table, lock it for a moment only, and wait no more than 5 s for
    that lock: whoever comes after them would wait too.
    """
    _print_for(tables, given, _ids_sql)


@ddl.command("order", epilog="Example: signalbus-relay ddl order --app shop:create_app > order.sql")
@click.argument("tables", nargs=-1)
@click.option("--by", multiple=True, metavar="COLUMN", help="The key of these TABLES. May be given again.")
@with_application
def ddl_order(tables: tuple[str, ...], by: tuple[str, ...], **given: Any) -> None:
    """Column, index and triggers that order signals by key: of these TABLES, or of the application's models.

    The statements can be run again. They add the column to a table that lacks it, which rewrites and locks the table.
    With --where only these rows are in the index: give it where sent rows stay in the table (--done).
    """
    if bool(tables) != bool(by):
        raise click.UsageError("Give TABLES and the columns of their key, --by COLUMN, or neither.")
    _print_for(tables, given, partial(order_sql, by=by, where=given["where"]) if tables else order_sql)


@ddl.command("scheduled", epilog="Example: signalbus-relay ddl scheduled orders_outbox > scheduled.sql")
@click.argument("tables", nargs=-1)
@click.option("--key", multiple=True, default=("id",), show_default=True, help="A column of the primary key of TABLES.")
@with_application
def ddl_scheduled(tables: tuple[str, ...], key: tuple[str, ...], **given: Any) -> None:
    """The column signalbus_send_after, and its index: of these TABLES, or of the application's models that have it.

    The statements can be run again. Rows that exist are sent at once, as before.
    """
    _print_for(
        tables, given, partial(scheduled_sql, key=key), lambda specs: [one.model for one in specs if one.schedule]
    )


def _named(names: Iterable[str]) -> list[Table]:
    try:
        found = [table_name(name) for name in names]
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    return [Table(name.name, MetaData(), schema=name.schema) for name in found]


def _print(statements: Iterable[str]) -> None:
    say_data("\n".join(statement if statement.startswith("--") else f"{statement};" for statement in statements))


def _models(specs: Sequence[SignalSpec]) -> list[Any]:
    return [spec.model for spec in specs]


def _ids_sql(*tables: Any) -> list[str]:
    return ["SET lock_timeout = '5s'", *signal_id_sql(*tables), "RESET lock_timeout"]


def _print_for(
    tables: Sequence[str],
    given: dict[str, Any],
    sql_of: Callable[..., list[str]],
    targets_of: Callable[[Sequence[SignalSpec]], list[Any]] = _models,
) -> None:
    """Print the statements for these tables, or for the signal models of the application."""
    if tables:
        _print(sql_of(*_named(tables)))
        return
    loaded = load(given)
    try:
        with loaded.app.app_context():
            _print(_by_bind(loaded.bus.specs(), lambda specs: sql_of(*targets_of(specs))))
    except SignalBusError as error:
        fail(error)


def _by_bind(specs: Iterable[SignalSpec], sql_of: Callable[[Sequence[SignalSpec]], list[str]]) -> list[str]:
    chosen = by_bind(specs)
    if len(chosen) == 1:
        return sql_of(next(iter(chosen.values())))
    # Each database needs the statements for its own tables.
    return [
        line
        for bind_key, own in chosen.items()
        for line in (
            comment(f"The database of {'the default bind' if bind_key is None else f'bind {bind_key!r}'}:"),
            *sql_of(own),
        )
    ]
