"""Runs the checks of the chosen areas: those of each server in a thread of its own, and none for longer than 10 s."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from typing import Any

from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from signalbus_core import BurstLimits, SignalBus, SignalSpec, error_text, transaction

from ..config import RelayConfig
from . import destinations, versions
from .bloat import check_bloat
from .broker import check_broker
from .configuration import check_configuration, place_of
from .doorbell import check_doorbells
from .finding import AREAS, Finding, found
from .models import check_models, resolve_models
from .session import check_session, statement_mode
from .tables import check_tables

#: What a server is given to answer everything.
DEADLINE_SECONDS = 10.0

LIMITS = BurstLimits(statement_timeout_seconds=5.0, lock_timeout_seconds=1.0, idle_timeout_seconds=10.0)

#: Beside the workers': of the probe and of the doorkeeper.
CONNECTIONS_BESIDE_WORKERS = 2

#: The areas, and what looks at them.
Task = tuple[Sequence[str], Callable[[], Iterator[Finding]]]

DATABASE_AREAS = ("versions", "tables", "session", "bloat", "doorbell")


@dataclass(frozen=True)
class Subject:
    """What is checked."""

    app: Flask
    bus: SignalBus
    specs: Sequence[SignalSpec]
    config: RelayConfig
    send_probe: bool = False


def find_problems(
    bus: SignalBus, app: Flask, config: RelayConfig, areas: Sequence[str], *, send_probe: bool
) -> list[Finding]:
    """Look at the areas, and tell what was found; of an area where nothing is wrong, that."""
    with app.app_context():
        specs, unfit = resolve_models(bus)
        engines: Mapping[str | None, Engine] = dict(bus.db.engines)
        findings = list(check_configuration(app, engines)) + unfit + list(check_models(bus.get_signal_models()))
    wanted = [spec for spec in specs if not config.signals or {spec.name, spec.model.__name__} & set(config.signals)]
    subject = Subject(app, bus, wanted, config, send_probe)
    if "versions" in areas:
        findings += _local_versions()
    tasks: list[Task] = []
    chosen_areas = [area for area in DATABASE_AREAS if area in areas]
    for key in {spec.bind_key: None for spec in wanted}:
        if engines[key].dialect.name == "postgresql" and chosen_areas:
            tasks.append((chosen_areas, partial(_database, subject, key, engines[key], chosen_areas)))
    for engine in engines.values():
        _limit_connecting(engine)
    if "broker" in areas:
        tasks.append((["broker"], partial(_broker, subject)))
    findings += _run(tasks)
    chosen = [finding for finding in findings if finding.area in areas]
    troubled = {finding.area for finding in chosen if finding.level != "ok"}
    chosen += [found("area-fine", area, "nothing is wrong", area=area) for area in areas if area not in troubled]
    return sorted(chosen, key=lambda finding: AREAS.index(finding.area))


def _run(tasks: Sequence[Task]) -> list[Finding]:
    """Run the tasks side by side; what is not done in time is told of, and left alone."""
    results: list[list[Finding] | None] = [None] * len(tasks)

    def run(number: int, areas: Sequence[str], task: Callable[[], Iterator[Finding]]) -> None:
        try:
            results[number] = list(task())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            problem = f"it could not be looked at: {error_text(error)}"
            results[number] = [found("area-failed", area, problem, "See the text.", area=area) for area in areas]

    threads = [threading.Thread(target=run, args=(n, *task), daemon=True) for n, task in enumerate(tasks)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    findings: list[Finding] = []
    for result, (areas, _) in zip(list(results), tasks, strict=True):
        findings += [_late(area) for area in areas] if result is None else result
    return findings


def _late(area: str) -> Finding:
    problem = f"there was no answer within {DEADLINE_SECONDS:g} s"
    return found("area-timeout", area, problem, "Check the server and the network.", area=area)


def _local_versions() -> Iterator[Finding]:
    today = datetime.now(timezone.utc).date()
    yield from versions.check_python((sys.version_info.major, sys.version_info.minor), today)
    for name in versions.LIBRARIES:
        yield from versions.check_library(name, version(name))


def _database(subject: Subject, key: str | None, engine: Engine, areas: Sequence[str]) -> Iterator[Finding]:
    """The areas of one database; one error for each when it does not answer."""
    name = place_of(key)
    specs = [spec for spec in subject.specs if spec.bind_key == key]
    connections = subject.config.workers + CONNECTIONS_BESIDE_WORKERS
    today = datetime.now(timezone.utc).date()
    checks: dict[str, Callable[[Connection], Iterator[Finding]]] = {
        "versions": lambda connection: versions.check_postgresql(_version_number(connection), today),
        "tables": lambda connection: check_tables(connection, specs),
        "session": lambda connection: check_session(engine, connection, name, subject.config.burst_limits, connections),
        "bloat": lambda connection: check_bloat(connection, specs),
        "doorbell": lambda connection: check_doorbells(engine, connection, specs, name),
    }
    try:
        with engine.connect():
            pass
    except SQLAlchemyError as error:
        pooled = list(statement_mode(error, name))
        if pooled:
            yield from pooled
            return
        for area in areas:
            code = "database-unreachable" if area == "session" else "area-unreachable"
            problem = f"the database does not answer: {error_text(error)}"
            yield found(code, name, problem, "Check that it runs, and its URL.", area=area)
        return
    for area in areas:
        try:
            with transaction(engine, LIMITS) as connection:
                yield from list(checks[area](connection))
        except DBAPIError as error:
            pooled = list(statement_mode(error, name)) if area == "session" else []
            problem = f"it could not be looked at: {error_text(error)}"
            yield from pooled or [found("area-failed", name, problem, "See the text.", area=area)]


def _version_number(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SHOW server_version_num").scalar_one())


def _limit_connecting(engine: Engine) -> None:
    @event.listens_for(engine, "do_connect")
    def set_limit(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        parameters["connect_timeout"] = 4

    engine.dispose()


def _broker(subject: Subject) -> Iterator[Finding]:
    known, findings = destinations.sampled(subject.app, subject.bus, subject.specs)
    yield from findings
    told = {destination.model for destination in known}
    places = known | {
        destination for destination in destinations.stated(subject.specs) if destination.model not in told
    }
    for publisher in subject.app.extensions.get("signalbus_publishers", []):
        is_default = publisher is subject.app.extensions.get("signalbus_rabbitmq")
        yield from check_broker(publisher, places if is_default else (), send_probe=subject.send_probe)
