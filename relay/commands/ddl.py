"""``signalbus-relay ddl``: the SQL of what Signalbus keeps in the database, for migrations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from signalbus_core import SignalBusError, SignalSpec, doorbell_sql, parked_table_sql

from ..options import fail, with_application
from .application import load


@click.group()
def ddl() -> None:
    """Print the SQL of what Signalbus keeps in the database, for migrations."""


@ddl.command("parked", epilog="Example: signalbus-relay ddl parked")
def ddl_parked() -> None:
    """The table of signals that are set aside. db.create_all() and Alembic's autogenerate know it too."""
    click.echo(parked_table_sql())


@ddl.command("doorbell", epilog="Example: signalbus-relay ddl doorbell --app shop:create_app > doorbell.sql")
@click.argument("tables", nargs=-1)
@with_application
def ddl_doorbell(tables: tuple[str, ...], **given: Any) -> None:
    """The triggers that wake a sleeping relay: of these TABLES, or of all signal models of the application.

    The statements can be run again. db.create_all() runs them for the tables that it creates.
    """
    statements = doorbell_sql(*tables) if tables else _of_application(given)
    click.echo("\n".join(statement if statement.startswith("--") else f"{statement};" for statement in statements))


def _of_application(given: dict[str, Any]) -> list[str]:
    loaded = load(given)
    try:
        with loaded.app.app_context():
            return _by_bind(loaded.bus.specs())
    except SignalBusError as error:
        fail(error)


def _by_bind(specs: Iterable[SignalSpec]) -> list[str]:
    models: dict[str | None, list[type[Any]]] = {}
    for spec in specs:
        models.setdefault(spec.bind_key, []).append(spec.model)
    if len(models) == 1:
        return doorbell_sql(*next(iter(models.values())))
    # Each database needs the function of its own.
    return [
        line
        for bind_key, chosen in models.items()
        for line in (
            f"-- The database of {'the default bind' if bind_key is None else f'bind {bind_key!r}'}:",
            *doorbell_sql(*chosen),
        )
    ]
