"""Shared by all commands: loading the application, and failing with one sentence instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.lowlevel import BurstLimits, error_text

from ..application.connection_parameters import refuse_rejected_parameters
from ..application.databases import Databases
from ..application.load import LoadedApp, LoadingError, find_bus, load_app
from ..application.outbox_tables.build import load_tables
from ..config.click_options import fail
from ..config.resolve import ConfigError, resolve
from ..exit_codes import EXIT_RUNTIME, CommandError
from ..telemetry.log_format import configure_logging
from ..telemetry.loggers import output_as_log
from ..text import say


def readable_key(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str | None:
    """Check the primary key on the command line: no database accepts a NUL or text that cannot be encoded."""
    if given is not None and ("\0" in given or given != given.encode(errors="replace").decode()):
        raise click.BadParameter("it must be UTF-8, without NUL.")
    return given


def load(given: Mapping[str, Any]) -> LoadedApp:
    """The application that the options of a command name, or one made from the tables that they name.

    Ends the process with exit code 2 when there is none.

    :param given: from the command line, by field, as :func:`relay.config.click_options.with_application` gives them.
    """
    environ: Mapping[str, str] = click.get_current_context().obj
    try:
        config = resolve(given, environ)
        configure_logging(config.log_format, "WARNING")
        if config.table_rules:
            with failing_with_1():
                return load_tables(config.database_url, config.table_rules, config.workers)
        with output_as_log(config.log_format):
            loaded = find_bus(load_app(config.app), config.imports)
        refuse_rejected_parameters(loaded.engines())
        return loaded
    except (ConfigError, LoadingError, SignalBusError) as error:
        fail(error)


def databases(given: Mapping[str, Any], limits: BurstLimits) -> Databases:
    """The databases of that application.

    :param limits: of each transaction.
    """
    return Databases(load(given), limits)


@contextmanager
def failing_with_1() -> Iterator[None]:
    """End the process with exit code 1 and the reason on a CommandError, a database error or an OSError."""
    try:
        yield
    except (CommandError, SQLAlchemyError, OSError) as error:
        text = error_text(error) if isinstance(error, SQLAlchemyError) else str(error)
        say(f"signalbus-relay: {text}", err=True)
        sys.exit(EXIT_RUNTIME)
