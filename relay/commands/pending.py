"""``signalbus-relay pending``: backlog and lag by model, for people and for cron."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from ..application.databases import Databases
from ..config.click_options import with_application
from ..exit_codes import EXIT_OK, EXIT_RUNTIME
from ..operations.backlog import LIMITS, Backlog, Backlogs
from ..text import duration_text, moment, redact, say, say_data, table, time_text
from .shared import broker_cause, broker_finding, failing_with_1, load

COLUMNS = ("MODEL", "SIGNALS", "OLDEST", "WAITING", "PARKED", "STATE")


@click.command(
    epilog="Example: signalbus-relay pending --app shop:create_app --max-lag 300\n\n"
    "Exit codes: 0 shown, 1 a table cannot be read or --max-lag is passed, 2 wrong usage."
)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--exact", "is_exact", is_flag=True, help="Count every signal; a big table is read to its end.")
@click.option(
    "--max-lag",
    "max_lag_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End with 1 when a signal of a model that is not paused is older, or its age is not known.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def pending(
    models: tuple[str, ...], is_exact: bool, max_lag_seconds: float | None, is_json: bool, **given: Any
) -> None:
    """Show how many signals are in the tables, how old the oldest is, and what keeps them.

    Scheduled signals that are not due yet are counted apart, those that are waiting for another try or parked are not.
    The age is known where the model has the time at which a signal was written, or the server has
    track_commit_timestamp on.
    """
    environ: Mapping[str, str] = click.get_current_context().obj
    loaded = load(given)
    backlogs = Backlogs(Databases(loaded, LIMITS), lambda: broker_cause(broker_finding(loaded, given, environ)))
    with failing_with_1():
        found = backlogs.measure(models, is_exact=is_exact)
    if is_json:
        for one in found:
            say_data(_as_json(one))
    else:
        has_schedule = any(one.scheduled is not None for one in found)
        rows = [_row(one, has_schedule) for one in found]
        head, *lines = table(COLUMNS if not has_schedule else (*COLUMNS[:2], "SCHEDULED", *COLUMNS[2:]), rows)
        say(head)
        for one, line in zip(found, lines, strict=True):
            say(line, colour=_colour(one), environ=environ)
        for to_do in dict.fromkeys(one.to_do for one in found if one.to_do):
            say(f"To do: {to_do}")
    late = [] if max_lag_seconds is None else [text for one in found if (text := _why_late(one, max_lag_seconds))]
    for text in late:
        say(f"signalbus-relay: {text}", err=True)
    sys.exit(EXIT_RUNTIME if late or any(one.trouble for one in found) else EXIT_OK)


def _why_late(backlog: Backlog, max_lag_seconds: float) -> str | None:
    if not backlog.signals or backlog.paused_at is not None:
        return None
    if backlog.oldest_age_seconds is None:
        return (
            f"The age of {backlog.model}'s signals is not known. Give the model a column created_at with time zone, or "
            "set track_commit_timestamp = on."
        )
    if backlog.oldest_age_seconds <= max_lag_seconds:
        return None
    age = duration_text(backlog.oldest_age_seconds)
    return f"The oldest signal of {backlog.model} is {age} old, more than {max_lag_seconds:g} s."


def _as_json(backlog: Backlog) -> str:
    age = backlog.oldest_age_seconds
    shown = {
        "paused_at": time_text(backlog.paused_at),
        "oldest_age_seconds": None if age is None else round(age, 3),
        "pause_reason": backlog.pause_reason and redact(backlog.pause_reason),
        "trouble": backlog.trouble and redact(backlog.trouble),
        "reason": backlog.reason and redact(backlog.reason),
        "since": _since(backlog),
        "to_do": backlog.to_do and redact(backlog.to_do),
    }
    return json.dumps({**asdict(backlog), **shown})


def _colour(backlog: Backlog) -> str | None:
    if backlog.state in ("blocked", "failing"):
        return "red"
    return "yellow" if backlog.state in ("paused", "behind", None) or backlog.parked else None


def _row(backlog: Backlog, has_schedule: bool) -> tuple[str, ...]:
    later = "-" if backlog.scheduled is None else f"{backlog.scheduled}{'' if backlog.is_exact else '+'}"
    age = "-" if not backlog.signals else "?"
    if backlog.oldest_age_seconds is not None:
        age = duration_text(backlog.oldest_age_seconds)
    return (
        backlog.model,
        "?" if backlog.signals is None else f"{backlog.signals}{'' if backlog.is_exact else '+'}",
        *([later] if has_schedule else []),
        age if backlog.signals is not None else "?",
        "?" if backlog.waiting is None else str(backlog.waiting),
        "?" if backlog.parked is None else str(backlog.parked),
        _state(backlog),
    )


def _since(backlog: Backlog) -> str | None:
    return None if backlog.since is None else time_text(moment(backlog.since))


def _state(backlog: Backlog) -> str:
    since = f" since {_since(backlog)}" if backlog.since is not None else ""
    reason = f": {backlog.reason}" if backlog.reason else ""
    return f"{backlog.state or '?'}{since}{reason}"
