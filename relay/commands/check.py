"""``signalbus-relay check``: everything that a deployment can get wrong, each with its remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core import SignalBusError
from signalbus_core.lowlevel import error_text

from ..application.connection_parameters import RejectedParametersError
from ..application.load import WRITE_DRIVER, LoadedApp, LoadingError, choose_broker_url, find_broker, find_bus, load_app
from ..application.metadata import load_metadata
from ..application.outbox_tables.build import TablesError, load_tables
from ..checks.configuration import rejected
from ..checks.finding import AREAS, Finding, finding_of_text, found
from ..checks.run import Subject, find_problems
from ..config.click_options import fail, with_options
from ..config.resolve import ConfigError, RelayConfig, resolve
from ..exit_codes import EXIT_OK, EXIT_RUNTIME
from ..telemetry.logs.formats import configure_logging
from ..telemetry.logs.loggers import output_as_log
from ..text import redact, say, say_data

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "ok": ("✓", "green")}


@click.command(
    epilog="Example: signalbus-relay check --app shop:create_app --only config --only models\n\n"
    "Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage or configuration."
)
@click.option(
    "--only", "only", type=click.Choice(AREAS), multiple=True, help="Check only this area. May be given again."
)
@click.option("--skip", "skip", type=click.Choice(AREAS), multiple=True, help="Leave this area out.")
@click.option("--strict", is_flag=True, help="Warnings count as wrong.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@click.option("--send-probe", is_flag=True, help="Send an empty message of type signalbus.check to each route.")
@with_options
def check(
    only: Sequence[str], skip: Sequence[str], strict: bool, is_json: bool, send_probe: bool, **given: Any
) -> None:
    """Find what a deployment can get wrong, each with its remedy; change nothing. Servers get 10 seconds to answer.

    The options are those of run. The areas config and models need no server: they can be checked where the
    application is tested.
    """
    areas = [area for area in AREAS if (not only or area in only) and area not in skip]
    if not areas:
        raise click.UsageError("No area is left to check.")
    environ: Mapping[str, str] = click.get_current_context().obj
    try:
        findings = _check(given, environ, areas, send_probe=send_probe)
    except ConfigError as error:
        fail(error)
    for finding in findings:
        say_data(as_json(finding)) if is_json else _say(finding, environ)
    wrong = {"error", "warning"} if strict else {"error"}
    sys.exit(EXIT_RUNTIME if any(finding.level in wrong for finding in findings) else EXIT_OK)


def _check(
    given: Mapping[str, Any], environ: Mapping[str, str], areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    config = resolve(given, environ)
    configure_logging(config.log_format, "ERROR")
    if config.table_rules:
        return _check_tables(config, environ, areas, send_probe=send_probe)
    if config.metadata is not None:
        return _check_metadata(config.metadata, config, environ, areas, send_probe=send_probe)
    try:
        with output_as_log(config.log_format):
            app = load_app(config.app)
    except (LoadingError, SignalBusError) as error:
        problem, hint, _ = str(error).partition(WRITE_DRIVER)
        remedy = hint or "Mend the application, or name another with --app."
        return [found("app-not-loaded", f"--app {config.app}", problem.rstrip(" ."), remedy)]
    config = resolve(given, environ, app.config)
    configure_logging(config.log_format, "ERROR")
    try:
        with output_as_log(config.log_format):
            loaded = find_bus(app, config.imports)
    except (LoadingError, SignalBusError) as error:
        return [finding_of_text("app-without-models", f"--app {config.app}", str(error))]
    return _check_models(loaded, config, environ, areas, send_probe=send_probe)


def _check_metadata(
    location: str, config: RelayConfig, environ: Mapping[str, str], areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    try:
        with output_as_log(config.log_format):
            loaded = load_metadata(location, config.imports, config.database_url, config.workers)
    except (LoadingError, SignalBusError) as error:
        return [finding_of_text("app-not-loaded", f"--metadata {location}", str(error))]
    return _check_models(loaded, config, environ, areas, send_probe=send_probe)


def _check_tables(
    config: RelayConfig, environ: Mapping[str, str], areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    try:
        loaded = load_tables(config.database_url, config.table_rules, config.workers)
    except TablesError as error:
        return [
            *_table_findings("table-unfit", error.problems),
            *_table_findings("rows-unsettled", error.columns_without_rule),
        ]
    except RejectedParametersError as error:
        return [rejected(place, why) for place, why in error.rejected.items()]
    except SQLAlchemyError as error:
        remedy = "Check that it runs, and --database-url."
        return [found("database-unreachable", "database", error_text(error).rstrip("."), remedy)]
    early = _table_findings("rows-early", loaded.remarks)
    return [*early, *_check_models(loaded, config, environ, areas, send_probe=send_probe)]


def _table_findings(code: str, lines: Sequence[str]) -> list[Finding]:
    """Findings about the tables that the lines name."""
    named = [line.removeprefix("--table ").partition(": ") for line in lines]
    return [finding_of_text(code, table, problem) for table, _, problem in named]


def _check_models(
    loaded: LoadedApp, config: RelayConfig, environ: Mapping[str, str], areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    known = _find_broker(loaded, config.amqp_url, environ)
    return find_problems(Subject(loaded.app, loaded.bus, config, send_probe), areas, known)


def _find_broker(loaded: LoadedApp, amqp_url: str | None, environ: Mapping[str, str]) -> list[Finding]:
    try:
        find_broker(loaded, choose_broker_url(loaded.app, amqp_url, environ))
    except (LoadingError, SignalBusError) as error:
        variable, is_named, problem = str(error).partition(": ") if isinstance(error, LoadingError) else ("", "", "")
        place, why = (variable, problem) if is_named else ("SIGNALBUS_RABBITMQ_URL", str(error))
        remedy = f"Set {place}, or --amqp-url, to amqp://user:password@host:5672/vhost."
        return [
            found("broker-url", place, why.rstrip("."), remedy),
            found("area-unreachable", "broker", "its URL is not known", remedy, area="broker"),
        ]
    return []


def as_json(finding: Finding) -> str:
    return json.dumps({name: redact(value) for name, value in asdict(finding).items()})


def _say(finding: Finding, environ: Mapping[str, str]) -> None:
    """Print a finding as one line for people, its mark in colour."""
    mark, colour = MARKS[finding.level]
    say(as_line(finding), mark=mark, colour=colour, environ=environ)


def as_line(finding: Finding) -> str:
    """A finding as one line for people, without its mark."""
    subject = "" if finding.subject == finding.area else f"{finding.subject}: "
    text = f"{subject}{finding.problem}."
    if finding.level != "ok":
        text += f" {finding.remedy} [{finding.code}]"
    return f"{finding.area:<9} {text}"
