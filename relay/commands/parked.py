"""``signalbus-relay parked``: the commands about failed signals, waiting or parked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click

from signalbus_core.lowlevel import FailureGroup, FailureRecord

from ..config.click_options import with_application
from ..exit_codes import CommandError
from ..operations.parked import LIMITS, ParkedSignals, RecordFile, as_json, group_as_json
from ..telemetry.remedies import remedy_of
from ..text import behind_text, confirm, say, say_data, table, time_text
from .shared import databases, failing_with_1, readable_key

GROUP_COLUMNS = ("MODEL", "GROUP", "STATE", "SIGNALS", "FIRST FAILED", "ONE OF THEM", "WHY, AND WHAT TO DO")

COLUMNS = ("MODEL", "KEY", "STATE", "ATTEMPTS", "FIRST FAILED", "NEXT TRY", "WHY")


@click.group()
def parked() -> None:
    """See signals that could not be sent, have them tried again, or discard them.

    A signal that failed waits for its next try; one that failed too often for its own sake is parked: it waits for
    you. Both stay in their table. The commands work while relays run.
    """


@parked.command("list", epilog="Example: signalbus-relay parked list --app shop:create_app OrderPlaced")
@click.argument("model", required=False)
@click.option("--groups", "by_groups", is_flag=True, help="Group them by model, state and reason.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Show no more than so many.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def parked_list(model: str | None, by_groups: bool, limit: int, is_json: bool, **given: Any) -> None:
    """List them, parked ones first."""
    signals = _parked_signals(given)
    if by_groups:
        _list_groups(signals, model, limit, is_json=is_json)
        return
    with failing_with_1():
        found = signals.find(model, None, limit + 1)
        held_back = signals.held_back(found[:limit])
    if is_json:
        for one, number in zip(found, held_back, strict=False):
            say_data(json.dumps(as_json(one, number)))
    elif not found:
        say("No signal has failed.")
    else:
        environ: Mapping[str, str] = click.get_current_context().obj
        head, *lines = _as_table(found[:limit], held_back)
        say(head)
        for one, line in zip(found, lines, strict=False):
            say(line, colour="yellow" if one.is_parked else None, environ=environ)
    if len(found) > limit:
        say(f"There are more than {limit}; see --limit.", err=True)


def _list_groups(signals: ParkedSignals, model: str | None, limit: int, *, is_json: bool) -> None:
    with failing_with_1():
        found = signals.groups(model, limit + 1)
    if is_json:
        for one in found[:limit]:
            say_data(json.dumps(group_as_json(one)))
    elif not found:
        say("No signal has failed.")
    else:
        for line in table(GROUP_COLUMNS, [_group_row(one) for one in found[:limit]]):
            say(line)
    if len(found) > limit:
        say(f"There are more than {limit}; see --limit.", err=True)


def _group_row(group: FailureGroup) -> tuple[str, ...]:
    state = "parked" if group.is_parked else "waiting"
    remedy = remedy_of(group.error_class).text
    why = f"{group.error_class}: {group.error_text} - {remedy}"
    return (group.model, group.group, state, str(group.number), time_text(group.first_failed_at) or "", group.key, why)


@parked.command("show", epilog="Example: signalbus-relay parked show --app shop:create_app OrderPlaced 42")
@click.argument("model")
@click.argument("key", callback=readable_key)
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def parked_show(model: str, key: str, is_json: bool, **given: Any) -> None:
    """Show one of them. A KEY of several columns is a JSON array of texts, as `list` shows it."""
    signals = _parked_signals(given)
    with failing_with_1():
        found = signals.find(model, key)
    shown = as_json(found[0])
    if is_json:
        say_data(json.dumps(shown))
    else:
        for name, value in shown.items():
            say(f"{name}: {value}")


@parked.command("retry", epilog="Example: signalbus-relay parked retry --app shop:create_app OrderPlaced 42")
@click.argument("model", required=False)
@click.argument("key", callback=readable_key, required=False)
@click.option("--group", metavar="GROUP", help="Those of this group of the MODEL, as `list --groups` shows it.")
@click.option("--all", "is_all", is_flag=True, help="All of all models.")
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def parked_retry(
    model: str | None, key: str | None, group: str | None, is_all: bool, is_json: bool, **given: Any
) -> None:
    """Have them tried at once: one, those of a MODEL or of a group of it, or all."""
    if (model is None) != is_all or (group is not None and (key is not None or model is None)):
        raise click.UsageError("Give a MODEL, with or without a KEY or --group, or --all.")
    signals = _parked_signals(given)
    with failing_with_1():
        number = signals.try_again(model, key, group)
    if is_json:
        say_data(_done(model, key, "retried", number))
    else:
        say(f"{number} will be tried again.")


@parked.command("discard", epilog="Example: signalbus-relay parked discard --app shop:create_app OrderPlaced 42")
@click.argument("model")
@click.argument("key", callback=readable_key, required=False)
@click.option("--group", metavar="GROUP", help="Those of this group, as `list --groups` shows it.")
@click.option("--all", "is_all", is_flag=True, help="All of this model that are parked.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--record", metavar="FILE", help="Add the discarded rows to this file, instead of printing them.")
@click.option("--json", "is_json", is_flag=True, help="End with a JSON object that says how many.")
@with_application
def parked_discard(
    model: str,
    key: str | None,
    group: str | None,
    is_all: bool,
    yes: bool,
    record: str | None,
    is_json: bool,
    **given: Any,
) -> None:
    """Delete them unsent: one, a group, or all of a MODEL that are parked. Their rows are printed as JSON first."""
    if [key is None, group is None, not is_all].count(False) != 1:
        raise click.UsageError("Give a KEY, or --all, or --group.")
    signals = _parked_signals(given)
    with failing_with_1():
        found = [one for one in signals.find(model, key, group=group) if not is_all or one.is_parked]
        if not found:
            raise CommandError(f"No signal of {model} is parked.")
        if not yes:
            for line in _as_table(found[:20]):
                say(line, err=True)
            confirm(f"Delete {len(found)} signals of {model}? They will never be sent")
        number = signals.discard(found, RecordFile(record))
    if is_json:
        say_data(_done(model, key, "discarded", number))
    else:
        say(f"{number} discarded.", err=True)


@parked.command("skip", epilog="Example: signalbus-relay parked skip --app shop:create_app AccountChanged 42")
@click.argument("model")
@click.argument("key", callback=readable_key)
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def parked_skip(model: str, key: str, is_json: bool, **given: Any) -> None:
    """Let the later signals of its key be sent without a parked one, in a model with an order. It stays parked."""
    signals = _parked_signals(given)
    with failing_with_1():
        signals.skip(model, key)
    if is_json:
        say_data(_done(model, key, "skipped", 1))
    else:
        say(f"{model} {key} holds back no others.")


def _done(model: str | None, key: str | None, what: str, number: int) -> str:
    return json.dumps({"model": model, "key": key, what: number})


def _parked_signals(given: Mapping[str, Any]) -> ParkedSignals:
    return ParkedSignals(databases(given, LIMITS))


def _as_table(signals: Sequence[FailureRecord], held_back: Sequence[int | None] = ()) -> list[str]:
    return table(COLUMNS, [_row(signal, number) for signal, number in zip_longest(signals, held_back)])


def _row(signal: FailureRecord, held_back: int | None) -> tuple[str, ...]:
    return (
        signal.model,
        signal.key,
        "parked" if signal.is_parked else "waiting",
        str(signal.attempts),
        time_text(signal.first_failed_at) or "",
        time_text(signal.next_try_at) or "-",
        signal.why if held_back is None else f"{signal.why} ({behind_text(held_back)})",
    )
