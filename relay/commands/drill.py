"""``signalbus-relay drill``: break relays, and see that nothing is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from ..config.click_options import fail
from ..drill.run import run
from ..drill.settings import DrillFailedError, DrillInterrupted, DrillUsageError, resolve
from ..exit_codes import EXIT_OK, EXIT_RUNTIME
from ..telemetry.logs.formats import configure_logging
from ..text import say, say_text


@click.command(
    epilog="Example: DATABASE_URL=postgresql://... AMQP_URL=amqp://... signalbus-relay drill --seconds 60\n\n"
    "Exit codes: 0 nothing lost and nothing invented, 1 otherwise or interrupted, 2 wrong usage."
)
@click.option("--database-url", metavar="URL", help="The database in which a table is made.  [DATABASE_URL]")
@click.option("--amqp-url", metavar="URL", help="Where a queue is made; nodes with commas.  [AMQP_URL, RABBITMQ_URL]")
@click.option("--signals", metavar="N", help="How many signals are committed; 5000.")
@click.option("--seconds", metavar="SECONDS", help="For how long things are broken; 30.")
@click.option("--relays", metavar="N", help="How many relay processes send; 2.")
@click.option("--seed", metavar="N", help="Break the same things at the same times as the drill that printed it.")
@click.option("--queue-type", metavar="TYPE", help="classic or quorum; classic.")
@click.option("--inbox", "with_inbox", is_flag=True, help="Kill consumers with an inbox at every step; count effects.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, and everything else on stderr.")
def drill(**given: Any) -> None:
    """Break relays, and see that nothing is lost.

    Starts relays of its own, on a table, an exchange and a queue of its own, kills and cuts off what it started, and
    compares what was committed with what arrived. Touches nothing else, and removes what it made.
    """
    environ: Mapping[str, str] = click.get_current_context().obj
    configure_logging("text", "ERROR")
    try:
        settings = resolve(given, environ)
        report = run(settings, environ, lambda text: say(text, err=settings.as_json))
    except DrillUsageError as error:
        fail(error)
    except DrillFailedError as error:
        fail(error, EXIT_RUNTIME)
    except DrillInterrupted:
        say("signalbus-relay: Interrupted; everything that was made has been removed.", err=True)
        sys.exit(EXIT_RUNTIME)
    say_text(json.dumps(report.as_object(), indent=2) if settings.as_json else f"\n{report.as_text()}")
    sys.exit(EXIT_OK if report.is_good else EXIT_RUNTIME)
