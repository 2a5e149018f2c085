"""``signalbus-relay ddl doorbell``: the SQL that gives signal tables a doorbell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from signalbus_core import SignalBusError, SignalSpec, doorbell_sql

from .config import ConfigError, resolve
from .loading import LoadingError, find_bus, load_app
from .logs import configure_logging
from .options import fail, with_application


@click.command("doorbell", epilog="Example: signalbus-relay ddl doorbell --app shop:create_app > doorbell.sql")
@click.argument("tables", nargs=-1)
@with_application
def ddl_doorbell(tables: tuple[str, ...], **given: Any) -> None:
    """The triggers that wake a sleeping relay: of these TABLES, or of all signal models of the application.

    The statements can be run again. db.create_all() runs them for the tables that it creates.
    """
    statements = doorbell_sql(*tables) if tables else _of_application(given)
    click.echo("\n".join(statement if statement.startswith("--") else f"{statement};" for statement in statements))


def _of_application(given: Mapping[str, Any]) -> list[str]:
    environ: Mapping[str, str] = click.get_current_context().obj
    try:
        config = resolve(given, environ)
        configure_logging(config.log_format, "WARNING")
        loaded = find_bus(load_app(config.app), config.imports)
        with loaded.app.app_context():
            return _by_bind(loaded.bus.specs())
    except (ConfigError, LoadingError, SignalBusError) as error:
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
