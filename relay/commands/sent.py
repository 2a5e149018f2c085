"""``signalbus-relay sent``: the commands about what was sent."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import click

from signalbus_core.lowlevel import BurstLimits, SentFilter, counted
from signalbus_core.rabbitmq import Publisher

from ..application.databases import Databases
from ..application.load import LoadedApp
from ..application.outbox_tables.row_choice.where import condition
from ..config.click_options import with_application, with_application_but_where
from ..exit_codes import EXIT_OK, EXIT_RUNTIME, CommandError
from ..explain.routes import Route, query_broker
from ..operations.erase import Erasures
from ..operations.replay import Replays
from ..operations.sent import SentSignals, as_json, as_rows
from ..text import confirm, say, say_data, table
from .shared import databases, failing_with_1, load, readable_key, require_broker

#: A search without an index may take long in a large history.
LIMITS = BurstLimits(statement_timeout_seconds=600.0, lock_timeout_seconds=10.0, idle_timeout_seconds=600.0)

COLUMNS = ("MODEL", "KEY", "SENT", "WRITTEN", "EXCHANGE", "ROUTING KEY", "MESSAGE ID")

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _moment(_context: click.Context, _parameter: click.Parameter, given: str | None) -> datetime | None:
    """A time, or how long ago it was."""
    if given is None:
        return None
    try:
        if ago := re.fullmatch(r"(\d{1,9})([smhd])", given.strip()):
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(re.sub(r"Z$", "+00:00", given.strip()))
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{given!r} is no time: 2026-11-28, 2026-11-28T14:30+01:00, or 2h, 30m, 7d ago."
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)


def _condition(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    try:
        return None if given is None else condition(given)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


since = click.option(
    "--since",
    callback=_moment,
    metavar="TIME",
    help="Sent then or later: 2026-11-28T14:30, in UTC, or 2h, 30m, 7d ago.",
)
until = click.option("--until", callback=_moment, metavar="TIME", help="Sent before that time.")


@click.group()
def sent() -> None:
    """See what was sent, send it again, erase it: of models with signalbus_keep_days, of tables with --keep-days."""


@sent.command("list", epilog="Example: signalbus-relay sent list --app shop:create_app OrderPlaced --since 2h")
@click.argument("model", required=False)
@click.option(
    "--key", callback=readable_key, metavar="KEY", help="Of the signal with this key; without MODEL, of any model."
)
@click.option("--message-id", callback=readable_key, metavar="ID", help="Of the message with this id.")
@since
@until
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


@sent.command(
    "replay",
    epilog="Examples: signalbus-relay sent replay --app shop:create_app OrderPlaced 42\n\n"
    "signalbus-relay sent replay --app shop:create_app OrderPlaced --since 2026-11-28 --until 2026-11-29 "
    "--to-queue billing-new\n\n"
    "Exit codes: 0 all were sent, 1 some or all were not, 2 wrong usage.",
)
@click.argument("model")
@click.argument("key", callback=readable_key, required=False)
@click.option("--message-id", callback=readable_key, metavar="ID", help="The signal of the message with this id.")
@since
@until
@click.option("--to-queue", metavar="QUEUE", help="Send all to this queue, and nowhere else.")
@click.option("--rate", type=click.IntRange(1), default=1000, show_default=True, help="So many signals a second.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "is_json", is_flag=True, help="End with a JSON object that says how many.")
@with_application
def sent_replay(
    model: str,
    key: str | None,
    message_id: str | None,
    since: datetime | None,
    until: datetime | None,
    to_queue: str | None,
    rate: int,
    yes: bool,
    is_json: bool,
    **given: Any,
) -> None:
    """Send signals again: one, or those of a stretch of time, in the order of the bursts that sent them.

    Their messages have the ids that they had, so consumers that drop what they have seen drop them too, unless a queue
    is new; and a header, signalbus-replay. Rows are sent as they were, by the model as it is now.
    """
    if key is None and message_id is None and since is None:
        raise click.UsageError("Give a KEY, --message-id, or --since.")
    environ: Mapping[str, str] = click.get_current_context().obj
    loaded = load(given)
    require_broker(loaded, given, environ)
    chosen = SentFilter(key, message_id, since, until or datetime.now(timezone.utc))
    with failing_with_1():
        replays = Replays(loaded, SentSignals(Databases(loaded, LIMITS)), model, to_queue, rate)
        number = replays.count(chosen)
        if not number:
            raise CommandError(f"Of {model} nothing of that is kept.")
        if to_queue is not None:
            _require_queue(loaded, to_queue)
        for warning in replays.warnings():
            say(f"{model}: {warning}.", err=True)
        if not yes:
            where = "their own destinations" if to_queue is None else f"the queue {to_queue}"
            confirm(f"Send {counted(number, f'signal of {model}')} again, to {where}")
        result = replays.run(chosen)
    for failed_key, reason in result.unsent:
        say(f"{model} {failed_key} was not sent: {reason}", err=True)
    if result.stopped_at is not None:
        at = result.stopped_at
        say(f"Stopped at {model} {at.key}: {result.reason}. Go on with --since {at.sent_at.isoformat()}.", err=True)
    if is_json:
        done = {"model": model, "sent": result.sent, "failed": result.failed, "stopped": result.stopped_at is not None}
        say_data(json.dumps(done))
    else:
        say(f"{result.sent:,} sent again{f', {result.failed:,} not' if result.failed else ''}.")
    sys.exit(EXIT_RUNTIME if result.failed or result.stopped_at is not None else EXIT_OK)


@sent.command(
    "erase",
    epilog="Examples: signalbus-relay sent erase --app shop:create_app OrderPlaced 42\n\n"
    "signalbus-relay sent erase --app shop:create_app OrderPlaced --where \"row->>'customer_id' = '42'\"",
)
@click.argument("model")
@click.argument("key", callback=readable_key, required=False)
@click.option(
    "--where", "where", callback=_condition, metavar="CONDITION", help="Those whose row meets this condition of SQL."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--record", metavar="FILE", help="Add the record to this file, instead of printing it.")
@with_application_but_where
def sent_erase(model: str, key: str | None, where: str | None, yes: bool, record: str | None, **given: Any) -> None:
    """Erase what was sent, and the texts of notes about it: of one signal, or of all whose row meets a condition.

    The row is a JSON object whose values are texts, in the column row. Signals that are still to be sent stay; how many
    they are is told. A record says who erased how many, and when, and has the SHA-256 of the key or the condition.
    """
    if (key is None) == (where is None):
        raise click.UsageError("Give a KEY, or --where.")
    chosen = SentFilter(key=key, where=where)
    with failing_with_1():
        erasures = Erasures(_signals(given), model)
        found = erasures.count(chosen)
        if found.pending:
            say(
                f"{found.pending:,} of these are still to be sent, and stay in their table: have the application "
                "delete them, or `signalbus-relay parked discard`.",
                err=True,
            )
        if not (found.sent or found.notes):
            say(f"Of {model} nothing of that is kept.")
            return
        if not yes:
            signals = counted(found.sent, f"signal of {model}")
            confirm(f"Erase {signals} from the history, and the texts of {_notes(found.notes)}")
        erased = erasures.erase(chosen, record)
    say(f"{counted(erased.sent)} and {_notes(erased.notes)} erased.", err=True)


def _notes(number: int) -> str:
    return f"{number:,} note{'' if number == 1 else 's'}"


def _require_queue(loaded: LoadedApp, queue: str) -> None:
    publisher: Publisher = loaded.app.extensions["signalbus_rabbitmq"]
    for answer in query_broker(publisher.bound_to(loaded.app), [Route("", queue)]):
        if answer.remedy is not None:
            raise CommandError(f"{answer.text} {answer.remedy}")


def _signals(given: Mapping[str, Any]) -> SentSignals:
    return SentSignals(databases(given, LIMITS))
