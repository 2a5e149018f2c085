"""``flask signalbus``: send what is pending, list the signal models, count what is pending."""

from __future__ import annotations

import logging
import queue
from contextlib import suppress
from datetime import timezone
from typing import Any, cast

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from .bus import SignalBus, get_models_to_flush
from .errors import counted
from .failures import error_text, one_line
from .posix_signals import stop_requests
from .schema.own_tables import Pause, paused_table_of, paused_table_problem
from .sql.paused import list_pauses

logger = logging.getLogger("signalbus")

#: Counting stops here, so that a large table is not read to its end.
MOST_COUNTED = 1_000_000


@click.group("signalbus")
def signalbus_commands() -> None:
    """Send, list and count signals."""


@signalbus_commands.command()
@click.argument("names", nargs=-1)
@click.option(
    "-r",
    "--repeat",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Do it again, SECONDS after the last round began, until stopped. An error ends a round, not the command.",
)
@with_appcontext
def flushmany(names: tuple[str, ...], repeat: float | None) -> None:
    """Send the pending signals of the models with these NAMES, or of all models.

    Prints how many were sent, and nothing when there were none.
    """
    bus = _bus()
    models = get_models_to_flush(bus, names)
    if repeat is None:
        if names and not models:
            raise click.ClickException("None of these names is a signal model; see `flask signalbus signals`.")
        try:
            sent = bus.flushmany(models)
        except Exception as error:
            raise click.ClickException(error_text(error)) from error
        if sent:
            _say(f"{counted(sent)} sent.")
        return
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    with stop_requests(requests.put):
        while True:
            _flush_round(bus, models)
            with suppress(queue.Empty):
                requests.get(timeout=repeat)
                return


@signalbus_commands.command()
@with_appcontext
def signals() -> None:
    """List the signal models."""
    for spec in _bus().specs():
        _say(spec.name)


@signalbus_commands.command()
@with_appcontext
def pending() -> None:
    """Count the pending signals of each model, and tell which models are paused."""
    bus = _bus()
    names = {spec.model: spec.name for spec in bus.specs()}
    counts, pauses = bus.pending(limit=MOST_COUNTED), _pauses(bus)
    scheduled = bus.scheduled(limit=MOST_COUNTED)
    width = max((len(name) for name in names.values()), default=0)
    for model, count in counts.items():
        told = f"  {scheduled[model]} scheduled for later" if scheduled.get(model) else ""
        told += f"  {_why_paused(pauses[names[model]])}" if names[model] in pauses else ""
        _say(f"{names[model]:<{width}}  {'at least ' if count >= MOST_COUNTED else ''}{count}{told}")


def _say(text: str) -> None:
    """Print one line; nothing in it moves a terminal's cursor."""
    click.echo(one_line(text))


def _bus() -> SignalBus:
    return cast(SignalBus, current_app.extensions["signalbus"])


def _pauses(bus: SignalBus) -> dict[str, Pause]:
    """The pauses by model; none where their table is missing, or this login may not read it."""
    found: list[Pause] = []
    for spec in bus.specs():
        with bus.db.engines[spec.bind_key].connect() as connection:
            if paused_table_problem(connection, paused_table_of(spec)) is None:
                found += list_pauses(connection, [spec])
    return {pause.model: pause for pause in found}


def _why_paused(pause: Pause) -> str:
    since = pause.paused_at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"paused since {since}" + (f": {pause.reason}" if pause.reason else "")


def _flush_round(bus: SignalBus, models: list[type[Any]]) -> None:
    try:
        sent = bus.flushmany(models)
    except Exception as error:
        # The signals stay in their tables, and the next round tries them again. No traceback: that of a database error
        # shows the statement with its parameters.
        logger.error(
            "A round failed (%s); the next one goes on.",
            error_text(error),
            exc_info=not isinstance(error, SQLAlchemyError),
            extra={"action": "flush_round_failed"},
        )
    else:
        if sent:
            logger.info("%s sent.", counted(sent), extra={"action": "flush_round", "sent": sent})
