"""``signalbus-relay sent``: the commands about what was sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from signalbus_core.lowlevel import BurstLimits, SentFilter

from ..config.click_options import with_application
from ..operations.sent import SentSignals, as_json, as_rows
from ..text import say, say_data, table
from .shared import databases, failing_with_1, readable_key

#: A search without an index may take long in a large history.
LIMITS = BurstLimits(statement_timeout_seconds=600.0, lock_timeout_seconds=10.0, idle_timeout_seconds=600.0)

COLUMNS = ("MODEL", "KEY", "SENT", "WRITTEN", "EXCHANGE", "ROUTING KEY", "MESSAGE ID")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time, or how long ago it was."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime):
            return value
        try:
            if ago := re.fullmatch(r"(\d{1,9})([smhd])", value.strip()):
                return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
            found = datetime.fromisoformat(re.sub(r"Z$", "+00:00", value.strip()))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: 2026-11-28, 2026-11-28T14:30+01:00, or 2h, 30m, 7d ago.", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


@click.group()
def sent() -> None:
    """See what was sent, send it again, erase it: of models with signalbus_keep_days, of tables with --keep-days."""


@sent.command("list", epilog="Example: signalbus-relay sent list --app shop:create_app OrderPlaced --since 2h")
@click.argument("model", required=False)
@click.option("--key", callback=readable_key, metavar="KEY", help="Of the signal with this key.")
@click.option("--message-id", callback=readable_key, metavar="ID", help="Of the message with this id.")
@click.option("--since", type=Moment(), help="Sent then or later: 2026-11-28T14:30, in UTC, or 2h, 30m, 7d ago.")
@click.option("--until", type=Moment(), help="Sent before that time.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Show no more than so many.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def sent_list(
    model: str | None,
    key: str | None,
    message_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    is_json: bool,
    **given: Any,
) -> None:
    """List what was sent, the last first: when, where to, under which message id."""
    if key is not None and model is None:
        raise click.UsageError("--key: give its MODEL too.")
    signals = _signals(given)
    with failing_with_1():
        found = signals.find(model, SentFilter(key, message_id, since, until), limit + 1)
    if is_json:
        for one in found[:limit]:
            say_data(json.dumps(as_json(one)))
    elif not found:
        say("Nothing of that was sent, or it is not kept any more.")
    else:
        for line in table(COLUMNS, as_rows(found[:limit])):
            say(line)
    if len(found) > limit:
        say(f"There are more than {limit}; see --limit.", err=True)


@sent.command("show", epilog="Example: signalbus-relay sent show --app shop:create_app OrderPlaced 42")
@click.argument("model")
@click.argument("key", callback=readable_key)
@click.option("--row", "has_row", is_flag=True, help="Also its row, which is a payload: of each column its text.")
@click.option("--json", "is_json", is_flag=True, help="As a JSON object a line.")
@with_application
def sent_show(model: str, key: str, has_row: bool, is_json: bool, **given: Any) -> None:
    """Show a signal that was sent. A KEY of several columns is a JSON array of texts.

    There may be several under one key, as after TRUNCATE ... RESTART IDENTITY: the last is shown first.
    """
    signals = _signals(given)
    with failing_with_1():
        found = signals.find(model, SentFilter(key), None)
        if not found:
            raise signals.nothing_kept(model, key)
        shown = [{**as_json(one), **({"row": signals.row(one)} if has_row else {})} for one in found]
    for number, one in enumerate(shown):
        if is_json:
            say_data(json.dumps(one))
            continue
        if number:
            say("")
        for name, value in one.items():
            say(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")


def _signals(given: Mapping[str, Any]) -> SentSignals:
    return SentSignals(databases(given, LIMITS))
