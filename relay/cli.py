"""The command ``signalbus-relay``. The only module that reads the environment."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.lowlevel import error_text

from . import __version__, daemon
from .application.connection_parameters import refuse_rejected_parameters, refuse_rejected_settings
from .application.load import (
    AMQP_FALLBACKS,
    LoadedApp,
    LoadingError,
    choose_broker_url,
    find_broker,
    find_bus,
    load_app,
)
from .application.metadata import load_metadata
from .application.outbox_tables.build import load_tables
from .application.outbox_tables.wait import StoppedWaitingError, retry_until_available
from .application.pools import refuse_unfit_engines
from .commands.check import check
from .commands.contract import describe, rehearse
from .commands.drill import drill
from .commands.explain import explain
from .commands.inbox import inbox
from .commands.parked import parked
from .commands.pause import pause, resume
from .commands.pending import pending
from .commands.sent import sent
from .commands.setup.completion import completion
from .commands.setup.ddl import ddl
from .commands.setup.init import init
from .config.click_options import fail, with_options
from .config.resolve import ConfigError, RelayConfig, resolve
from .early_server import EarlySite, listening
from .end import end_process, ending_on_request, ignore_requests
from .exit_codes import EXIT_OK, EXIT_RUNTIME
from .telemetry.logs.formats import configure_logging
from .telemetry.logs.loggers import output_as_log

logger = logging.getLogger("signalbus.relay")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="signalbus-relay")
@click.pass_context
def cli(context: click.Context) -> None:
    """Send the signals of an application, or of outbox tables without one, to RabbitMQ."""
    context.obj = os.environ


for command in (
    pending,
    explain,
    parked,
    sent,
    pause,
    resume,
    ddl,
    inbox,
    drill,
    check,
    describe,
    rehearse,
    init,
    completion,
):
    cli.add_command(command)


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
        with ending_on_request():
            exit_code = _run(given)
    except (ConfigError, LoadingError, SignalBusError) as error:
        fail(error)
    sys.exit(exit_code)


def _run(given: dict[str, Any]) -> int:
    # Before the application is loaded, so that what it logs while it loads is seen; again afterwards, because it may
    # have settings of its own, and may have configured logging itself.
    config = resolve(given, os.environ, broker_variables=AMQP_FALLBACKS)
    configure_logging(config.log_format, config.log_level)
    if config.table_rules:
        return _run_tables(config)
    if config.metadata is not None:
        with output_as_log(config.log_format):
            loaded = load_metadata(config.metadata, config.imports, config.database_url, config.workers)
        return _run_loaded(loaded, config)
    with output_as_log(config.log_format):
        app = load_app(config.app)
    config = resolve(given, os.environ, app.config)
    configure_logging(config.log_format, config.log_level)
    with output_as_log(config.log_format):
        loaded = find_bus(app, config.imports)
    return _run_loaded(loaded, config)


def _run_loaded(loaded: LoadedApp, config: RelayConfig) -> int:
    configure_logging(config.log_format, config.log_level)
    refuse_rejected_parameters(loaded.engines())
    refuse_rejected_settings(loaded.engines())
    refuse_unfit_engines(loaded.engines(), config.workers)
    find_broker(loaded, choose_broker_url(loaded.app, config.amqp_url, os.environ))
    with listening(config) as site:
        return _relay(loaded, config, site)


def _relay(loaded: LoadedApp, config: RelayConfig, site: EarlySite) -> int:
    exit_code = daemon.run(loaded, config, site)
    ignore_requests()
    return exit_code


def _run_tables(config: RelayConfig) -> int:
    with listening(config) as site:
        return _run_tables_with(config, site)


def _run_tables_with(config: RelayConfig, site: EarlySite) -> int:
    timeout_seconds = config.drain_timeout_seconds if config.until_empty else None
    try:
        loaded = retry_until_available(
            lambda: load_tables(config.database_url, config.table_rules, config.workers),
            timeout_seconds,
            on_away=site.database_is_away,
        )
    except StoppedWaitingError:
        return EXIT_OK
    except SQLAlchemyError as error:
        fail(LoadingError(error_text(error)), EXIT_RUNTIME)
    for remark in loaded.remarks:
        logger.warning("%s", remark, extra={"action": "rows_sent_early"})
    find_broker(loaded, config.amqp_url)
    return _relay(loaded, config, site)


def main() -> None:
    """The entry point."""
    exit_code = EXIT_RUNTIME
    try:
        cli(prog_name="signalbus-relay")
    except SystemExit as ended:
        exit_code = ended.code if isinstance(ended.code, int) else EXIT_OK if ended.code is None else EXIT_RUNTIME
    except Exception:
        logger.critical("The relay failed.", exc_info=True, extra={"action": "failed"})
    end_process(exit_code)


if __name__ == "__main__":
    main()
