"""``signalbus-relay pause`` and ``resume``: while a signal model is paused, no relay sends its signals."""

from __future__ import annotations

import json
from typing import Any

import click

from ..application.databases import LIMITS
from ..config.click_options import with_application
from ..operations.pauses import Pauses
from ..text import say, say_data
from .shared import databases, failing_with_1


@click.command(
    epilog='Example: signalbus-relay pause --app shop:create_app OrderPlaced --reason "billing is being moved"\n\n'
    "Exit codes: 0 it is paused, 1 there is no such model or no table, 2 wrong usage."
)
@click.argument("model")
@click.option("--reason", metavar="TEXT", help="Why, for whoever finds it paused; shown in logs and by `pending`.")
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def pause(model: str, reason: str | None, is_json: bool, **given: Any) -> None:
    """Have all relays leave the signals of MODEL in their table.

    It takes effect within one poll interval, holds for all relays, and survives restarts, until `resume`. Bursts in
    flight end. Backlog and lag are measured as before; signals that wait for another try wait on. `pending` shows what
    is paused. `flask signalbus flushmany` ignores it.
    """
    pauses = Pauses(databases(given, LIMITS))
    with failing_with_1():
        changed = pauses.pause(model, reason)
    if is_json:
        say_data(json.dumps({"model": model, "paused": True, "changed": changed}))
    else:
        say(f"{model} is paused." if changed else f"{model} was paused already; its first reason stands.")


@click.command(
    epilog="Example: signalbus-relay resume --app shop:create_app OrderPlaced\n\n"
    "Exit codes: 0 it is not paused any more, 1 there is no such model or no table, 2 wrong usage."
)
@click.argument("model", required=False)
@click.option("--all", "is_all", is_flag=True, help="All models that are paused.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def resume(model: str | None, is_all: bool, is_json: bool, **given: Any) -> None:
    """Have relays send the signals of MODEL again."""
    if (model is None) != is_all:
        raise click.UsageError("Give a MODEL, or --all.")
    pauses = Pauses(databases(given, LIMITS))
    with failing_with_1():
        models = [one.model for one in pauses.list()] if model is None else [model]
        changed = {name: pauses.resume(name) for name in models}
    for name, was_paused in changed.items():
        if is_json:
            say_data(json.dumps({"model": name, "paused": False, "changed": was_paused}))
        else:
            say(f"{name} is resumed." if was_paused else f"{name} was not paused.")
    if not changed and not is_json:
        say("No model is paused.")
