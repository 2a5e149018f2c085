"""``signalbus-relay parked`` and ``signalbus-relay ddl``: the commands about signals that are set aside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError, error_text, parked_table_sql

from .config import ConfigError, resolve
from .exits import EXIT_RUNTIME
from .loading import LoadingError, find_bus, load_app
from .logs import configure_logging, redact
from .options import fail, with_application
from .parked_signals import CommandError, ParkedSignals, RecordFile, as_json, as_table


@click.group()
def parked() -> None:
    """See signals that could not be sent, have them tried again, or discard them.

    A signal that failed waits for its next try; one that failed too often for its own sake is parked: it waits for
    you. Both stay in their table. The commands work while relays run.
    """


@parked.command("list", epilog="Example: signalbus-relay parked list --app shop:create_app OrderPlaced")
@click.argument("model", required=False)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Show no more than so many.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def parked_list(model: str | None, limit: int, is_json: bool, **given: Any) -> None:
    """List them, parked ones first."""
    signals = _parked_signals(given)
    with _failing_with_1():
        found = signals.find(model, None, limit + 1)
    if is_json:
        for one in found[:limit]:
            click.echo(json.dumps(as_json(one)))
    elif not found:
        click.echo("No signal is set aside.")
    else:
        click.echo("\n".join(as_table(found[:limit])))
    if len(found) > limit:
        click.echo(f"There are more than {limit}; see --limit.", err=True)


@parked.command("show", epilog="Example: signalbus-relay parked show --app shop:create_app OrderPlaced 42")
@click.argument("model")
@click.argument("key")
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def parked_show(model: str, key: str, is_json: bool, **given: Any) -> None:
    """Show one of them. A KEY of several columns is a JSON array of texts, as `list` shows it."""
    signals = _parked_signals(given)
    with _failing_with_1():
        found = signals.find(model, key)
        if not found:
            raise CommandError(f"{model} {key} is not set aside.")
    shown = as_json(found[0])
    click.echo(json.dumps(shown) if is_json else "\n".join(f"{name}: {value}" for name, value in shown.items()))


@parked.command("retry", epilog="Example: signalbus-relay parked retry --app shop:create_app OrderPlaced 42")
@click.argument("model", required=False)
@click.argument("key", required=False)
@click.option("--all", "is_all", is_flag=True, help="All of all models.")
@with_application
def parked_retry(model: str | None, key: str | None, is_all: bool, **given: Any) -> None:
    """Have them tried at once: one, those of a MODEL, or all."""
    if (model is None) != is_all:
        raise click.UsageError("Give a MODEL, with or without a KEY, or --all.")
    signals = _parked_signals(given)
    with _failing_with_1():
        number = signals.try_again(model, key)
        if not number and key is not None:
            raise CommandError(f"{model} {key} is not set aside.")
    click.echo(f"{number} will be tried again.")


@parked.command("discard", epilog="Example: signalbus-relay parked discard --app shop:create_app OrderPlaced 42")
@click.argument("model")
@click.argument("key", required=False)
@click.option("--all", "is_all", is_flag=True, help="All of this model that are parked.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--record", metavar="FILE", help="Add the discarded rows to this file, instead of printing them.")
@with_application
def parked_discard(model: str, key: str | None, is_all: bool, yes: bool, record: str | None, **given: Any) -> None:
    """Delete them unsent: one, or all of a MODEL that are parked. Their rows are printed as JSON first."""
    if (key is None) != is_all:
        raise click.UsageError("Give a KEY, or --all.")
    signals = _parked_signals(given)
    with _failing_with_1():
        found = [one for one in signals.find(model, key) if key is not None or one.is_parked]
        if not found:
            raise CommandError(f"{model} {key} is not set aside." if key else f"No signal of {model} is parked.")
        if not yes:
            click.echo("\n".join(as_table(found[:20])), err=True)
            click.confirm(f"Delete {len(found)} signals of {model}? They will never be sent", abort=True, err=True)
        number = signals.discard(found, RecordFile(record))
    click.echo(f"{number} discarded.", err=True)


@click.group()
def ddl() -> None:
    """Print the SQL of what Signalbus keeps in the database, for migrations."""


@ddl.command("parked")
def ddl_parked() -> None:
    """The table of signals that are set aside. db.create_all() and Alembic's autogenerate know it too."""
    click.echo(parked_table_sql())


def _parked_signals(given: Mapping[str, Any]) -> ParkedSignals:
    environ: Mapping[str, str] = click.get_current_context().obj
    try:
        config = resolve(given, environ)
        configure_logging(config.log_format, "WARNING")
        return ParkedSignals(find_bus(load_app(config.app), config.imports))
    except (ConfigError, LoadingError, SignalBusError) as error:
        fail(error)


@contextmanager
def _failing_with_1() -> Iterator[None]:
    try:
        yield
    except (CommandError, SQLAlchemyError, OSError) as error:
        text = error_text(error) if isinstance(error, SQLAlchemyError) else str(error)
        click.echo(f"signalbus-relay: {redact(text)}", err=True)
        sys.exit(EXIT_RUNTIME)
