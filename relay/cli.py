"""The command ``signalbus-relay``. The only module that reads the environment."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import click

from signalbus_core import SignalBusError

from . import __version__, daemon
from .config import ConfigError, resolve
from .doorbell_command import ddl_doorbell
from .drill.errors import DrillFailedError, DrillInterrupted, DrillUsageError
from .drill.run import run as run_drill
from .drill.settings import resolve as resolve_drill
from .exits import EXIT_DRAIN_TIMED_OUT, EXIT_OK, EXIT_RUNTIME
from .loading import LoadingError, find_broker, find_bus, load_app
from .logs import configure_logging, redact
from .options import fail, with_options
from .parked_commands import ddl, parked

logger = logging.getLogger("signalbus.relay")

#: Of the environment, for whoever the application leaves without a broker.
AMQP_FALLBACKS = ("AMQP_URL", "RABBITMQ_URL")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="signalbus-relay")
@click.pass_context
def cli(context: click.Context) -> None:
    """Send the signals of a Flask application to RabbitMQ."""
    context.obj = os.environ


cli.add_command(parked)
cli.add_command(ddl)
ddl.add_command(ddl_doorbell)


@cli.command(
    epilog="Example: signalbus-relay run --app shop:create_app --workers 4\n\n"
    "Exit codes: 0 ended as asked, 1 failed while running, 2 wrong usage or configuration, 3 drain timed out."
)
@with_options
def run(**given: Any) -> None:
    """Run the relay until it is stopped by SIGTERM or SIGINT.

    Each option can also be set by the environment variable in brackets, or by the same name in the application's
    configuration.
    """
    try:
        exit_code = _run(given)
    except (ConfigError, LoadingError, SignalBusError) as error:
        fail(error)
    if exit_code == EXIT_DRAIN_TIMED_OUT:
        # A thread is stuck; the interpreter would wait for what it holds.
        logging.shutdown()
        os._exit(exit_code)
    sys.exit(exit_code)


def _run(given: dict[str, Any]) -> int:
    # Before the application is loaded, so that what it logs while it loads is seen; again afterwards, because it may
    # have settings of its own, and may have configured logging itself.
    config = resolve(given, os.environ)
    configure_logging(config.log_format, config.log_level)
    app = load_app(config.app)
    config = resolve(given, os.environ, app.config)
    configure_logging(config.log_format, config.log_level)
    amqp_url = config.amqp_url
    if amqp_url is None and not app.config.get("SIGNALBUS_RABBITMQ_URL"):
        amqp_url = next((os.environ[name] for name in AMQP_FALLBACKS if os.environ.get(name)), None)
    loaded = find_bus(app, config.imports)
    find_broker(loaded, amqp_url)
    return daemon.run(loaded, config)


@cli.command(
    epilog="Example: DATABASE_URL=postgresql://... AMQP_URL=amqp://... signalbus-relay drill --seconds 60\n\n"
    "Exit codes: 0 nothing lost and nothing invented, 1 otherwise or interrupted, 2 wrong usage."
)
@click.option("--database-url", metavar="URL", help="The database in which a table is made.  [DATABASE_URL]")
@click.option("--amqp-url", metavar="URL", help="The broker where a queue is made.  [AMQP_URL, RABBITMQ_URL]")
@click.option("--signals", metavar="N", help="How many signals are committed; 5000.")
@click.option("--seconds", metavar="SECONDS", help="For how long things are broken; 30.")
@click.option("--relays", metavar="N", help="How many relay processes send; 2.")
@click.option("--seed", metavar="N", help="Break the same things at the same times as the drill that printed it.")
@click.option("--queue-type", metavar="TYPE", help="classic or quorum; classic.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, and everything else on stderr.")
def drill(**given: Any) -> None:
    """Break relays, and see that nothing is lost.

    Starts relays of its own, on a table, an exchange and a queue of its own, kills and cuts off what it started, and
    compares what was committed with what arrived. Touches nothing else, and removes what it made.
    """
    configure_logging("text", "ERROR")
    try:
        settings = resolve_drill(given, os.environ)
        report = run_drill(settings, os.environ, lambda text: click.echo(redact(text), err=settings.as_json))
    except DrillUsageError as error:
        fail(error)
    except DrillFailedError as error:
        fail(error, EXIT_RUNTIME)
    except DrillInterrupted:
        click.echo("signalbus-relay: Interrupted; everything that was made has been removed.", err=True)
        sys.exit(EXIT_RUNTIME)
    click.echo(json.dumps(report.as_object(), indent=2) if settings.as_json else f"\n{report.as_text()}")
    sys.exit(EXIT_OK if report.is_good else EXIT_RUNTIME)


def main() -> None:
    """The entry point."""
    try:
        cli(prog_name="signalbus-relay")
    except Exception:
        logger.critical("The relay failed.", exc_info=True, extra={"action": "failed"})
        sys.exit(EXIT_RUNTIME)


if __name__ == "__main__":
    main()
