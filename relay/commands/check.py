"""``signalbus-relay check``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from signalbus_core import SignalBusError

from ..checks.finding import AREAS, Finding, found
from ..checks.run import find_problems
from ..config import ConfigError, resolve
from ..exits import EXIT_OK, EXIT_RUNTIME
from ..loading import LoadingError, find_broker, find_bus, load_app
from ..logs import configure_logging, redact
from ..options import fail, with_options

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "ok": ("✓", "green")}


@click.command(
    epilog="Example: signalbus-relay check --app shop:create_app --only config --only models\n\n"
    "Exit codes: 0 nothing is wrong, 1 something is, 2 wrong usage or configuration."
)
@click.option("--only", "only", type=click.Choice(AREAS), multiple=True, help="Look at this area. May be given again.")
@click.option("--skip", "skip", type=click.Choice(AREAS), multiple=True, help="Leave this area out.")
@click.option("--strict", is_flag=True, help="Warnings count as wrong.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@click.option("--send-probe", is_flag=True, help="Send an empty message of type signalbus.check to each route.")
@with_options
def check(
    only: Sequence[str], skip: Sequence[str], strict: bool, is_json: bool, send_probe: bool, **given: Any
) -> None:
    """Find what a deployment can get wrong, each with its remedy.

    The areas config and models need no server, so that they can be checked where the application is tested.
    """
    areas = [area for area in AREAS if (not only or area in only) and area not in skip]
    environ: Mapping[str, str] = click.get_current_context().obj
    try:
        findings = _look(given, environ, areas, send_probe=send_probe)
    except ConfigError as error:
        fail(error)
    for finding in findings:
        click.echo(as_json(finding) if is_json else as_line(finding))
    wrong = {"error", "warning"} if strict else {"error"}
    sys.exit(EXIT_RUNTIME if any(finding.level in wrong for finding in findings) else EXIT_OK)


def _look(
    given: Mapping[str, Any], environ: Mapping[str, str], areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    config = resolve(given, environ)
    configure_logging(config.log_format, "ERROR")
    try:
        app = load_app(config.app)
    except (LoadingError, SignalBusError) as error:
        return [found("app-not-loaded", config.app, redact(str(error)), "Mend the application, or --app.")]
    config = resolve(given, environ, app.config)
    configure_logging(config.log_format, "ERROR")
    try:
        loaded = find_bus(app, config.imports)
    except (LoadingError, SignalBusError) as error:
        return [found("app-without-models", config.app, redact(str(error)), "See the text.")]
    amqp_url = config.amqp_url
    if amqp_url is None and not app.config.get("SIGNALBUS_RABBITMQ_URL"):
        amqp_url = next((environ[name] for name in ("AMQP_URL", "RABBITMQ_URL") if environ.get(name)), None)
    broken: list[Finding] = []
    try:
        find_broker(loaded, amqp_url)
    except SignalBusError as error:
        if "config" in areas or "broker" in areas:
            broken = [found("broker-url", "SIGNALBUS_RABBITMQ_URL", redact(str(error)), "Set it, or --amqp-url.")]
    return broken + find_problems(loaded.bus, app, config, areas, send_probe=send_probe)


def as_json(finding: Finding) -> str:
    return json.dumps({name: redact(value) for name, value in asdict(finding).items()})


def as_line(finding: Finding) -> str:
    """A finding for people; click leaves colours out where there is no terminal."""
    mark, colour = MARKS[finding.level]
    text = f"{click.style(mark, fg=colour)} {finding.area:<9} {redact(f'{finding.subject}: {finding.problem}')}"
    if finding.level == "ok":
        return text
    return f"{text.rstrip('.')}. {redact(finding.remedy)} [{finding.code}]"
