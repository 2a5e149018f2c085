"""Shared by all commands: loading the application, and failing with one sentence instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.lowlevel import BurstLimits, error_text, is_away

from ..application.connection_parameters import refuse_rejected_parameters
from ..application.databases import Databases
from ..application.load import LoadedApp, LoadingError, choose_broker_url, find_broker, find_bus, load_app
from ..application.metadata import load_metadata
from ..application.outbox_tables.build import load_tables
from ..checks.broker import ALARM, broker_problem
from ..checks.finding import Finding
from ..config.click_options import fail
from ..config.resolve import ConfigError, resolve
from ..exit_codes import EXIT_RUNTIME, CommandError
from ..operations.backlog import database_away
from ..telemetry.health import BROKER_AWAY, BROKER_BLOCKED
from ..telemetry.logs.formats import configure_logging
from ..telemetry.logs.loggers import output_as_log
from ..telemetry.remedies import Remedy
from ..telemetry.states import Cause
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
            if config.metadata is None:
                loaded = find_bus(load_app(config.app), config.imports)
            else:
                loaded = load_metadata(config.metadata, config.imports, config.database_url, config.workers)
        refuse_rejected_parameters(loaded.engines())
        return loaded
    except (ConfigError, LoadingError, SignalBusError) as error:
        fail(error)


def broker_cause(finding: Finding | None) -> Cause | None:
    """A finding about a broker as the cause of a model's state, in the words of relays."""
    if finding is None:
        return None
    is_blocked = finding.code == "broker-blocked"
    what = f"{BROKER_BLOCKED if is_blocked else BROKER_AWAY}: {finding.problem.removeprefix(ALARM)}"
    runbook = "SignalbusBrokerBlocked" if is_blocked else "SignalbusBrokerDown"
    return Cause(what, remedy=Remedy(finding.remedy, runbook))


def databases(given: Mapping[str, Any], limits: BurstLimits) -> Databases:
    """The databases of that application.

    :param limits: of each transaction.
    """
    return Databases(load(given), limits)


#: Why a command does not know the broker.
NO_BROKER = (ConfigError, LoadingError, SignalBusError)


def use_broker(loaded: LoadedApp, given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Give the application the broker that a relay with the same environment uses, or raise one of NO_BROKER."""
    config = resolve(given, environ, loaded.app.config)
    find_broker(loaded, choose_broker_url(loaded.app, config.amqp_url, environ))


def require_broker(loaded: LoadedApp, given: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """The same; without a broker the process ends."""
    try:
        use_broker(loaded, given, environ)
    except NO_BROKER as error:
        fail(error)


def broker_finding(loaded: LoadedApp, given: Mapping[str, Any], environ: Mapping[str, str]) -> Finding | None:
    """Why none of the brokers that a relay with the same environment uses takes messages.

    None: one does, or none is known.
    """
    try:
        use_broker(loaded, given, environ)
        publishers = loaded.app.extensions.get("signalbus_publishers", [])
        found = [broker_problem(publisher.bound_to(loaded.app)) for publisher in publishers]
    except NO_BROKER:
        return None
    return next(iter(found), None) if all(found) else None


@contextmanager
def failing_with_1() -> Iterator[None]:
    """End the process with exit code 1 and the reason on a CommandError, a database error or an OSError."""
    try:
        yield
    except (CommandError, SQLAlchemyError, OSError) as error:
        text = error_text(error) if isinstance(error, SQLAlchemyError) else str(error)
        if isinstance(error, SQLAlchemyError) and is_away(error):
            cause = database_away(error)
            text = f"{cause.reason}. To do: {cause.remedy.text if cause.remedy else ''}"
        say(f"signalbus-relay: {text}", err=True)
        sys.exit(EXIT_RUNTIME)
