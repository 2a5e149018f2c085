"""Checks all servers in parallel, each with a deadline: one that does not answer hides no finding about the others."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version

from flask import Flask
from sqlalchemy.engine import Engine

from signalbus_core import SignalBus
from signalbus_core.lowlevel import SignalSpec, address, error_text, owners_elsewhere

from ..config.resolve import RelayConfig
from . import routes, versions
from .broker import BROKER_AREAS, check_broker
from .configuration import check_configuration, fencing
from .connect import set_connect_timeout
from .database import DATABASE_AREAS, DatabaseChecks
from .finding import AREAS, OFFLINE_AREAS, Finding, found
from .models import check_ids, check_models, choose, resolve_models


@dataclass(frozen=True)
class Task:
    """A set of checks that runs in one thread.

    :param areas: those that it checks.
    """

    areas: Sequence[str]
    run: Callable[[], Iterator[Finding]]


def run_in_parallel(tasks: Sequence[Task], seconds: float) -> list[Finding]:
    """Run all tasks within the time, each in its own thread.

    A task that is not done in time leads to a finding; its thread is abandoned, and does not keep the process alive.
    """
    results: list[list[Finding] | None] = [None] * len(tasks)

    def run(number: int, task: Task) -> None:
        try:
            results[number] = list(task.run())
        except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a finding
            results[number] = [_failed(area, error) for area in task.areas]

    threads = [threading.Thread(target=run, args=numbered, daemon=True) for numbered in enumerate(tasks)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    findings: list[Finding] = []
    for task, result in zip(tasks, list(results), strict=True):
        findings += [_late(area, seconds) for area in task.areas] if result is None else result
    return findings


def _failed(area: str, error: Exception) -> Finding:
    problem = f"it could not be checked: {error_text(error)}"
    return found("area-failed", area, problem, "Mend what the text names, and run the check again.", area=area)


def _late(area: str, seconds: float) -> Finding:
    problem = f"there was no full answer within {seconds:g} s"
    return found("area-timeout", area, problem, "Check the load of the server, and the network to it.", area=area)


#: The deadline for all checks of a server.
DEADLINE_SECONDS = 10.0


@dataclass(frozen=True)
class Subject:
    """The application and the servers that are checked.

    :param send_probe: whether a message may be sent to prove a route.
    """

    app: Flask
    bus: SignalBus
    config: RelayConfig
    send_probe: bool = False


def find_problems(subject: Subject, areas: Sequence[str], known: Sequence[Finding] = ()) -> list[Finding]:
    """Check the areas, and return the findings; an area without a problem has one of level ``ok``.

    :param known: findings from loading the application.
    """
    with subject.app.app_context():
        engines: Mapping[str | None, Engine] = dict(subject.bus.db.engines)
        models = subject.bus.get_signal_models()
        specs, findings = resolve_models(subject.bus, models)
    findings += [*known, *check_configuration(subject.app, engines, subject.config), *check_models(models)]
    wanted, unknown = choose(specs, models, subject.config.signals)
    findings += [*unknown, *check_ids(wanted), *fencing(subject.app, wanted, subject.config)]
    if "versions" in areas:
        findings += _local_versions()
    for engine in engines.values():
        set_connect_timeout(engine)
    tasks = list(_tasks(subject, areas, wanted, engines))
    findings += run_in_parallel(tasks, DEADLINE_SECONDS)
    findings += _skipped(areas, tasks, findings)
    return told_once(_in_order([finding for finding in findings if finding.area in areas], areas))


def told_once(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without repetition: what keeps several areas of a server from being checked is told once."""
    together: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        place = one.subject if one.level != "ok" else f"{one.area} {one.subject}"
        # A lock lasts longer from area to area.
        problem = one.code if one.code == "model-blocked" else one.problem
        known = together.setdefault((place, problem), [])
        if one not in known:
            known.append(one)
    return [_merged(same) for same in together.values()]


def _merged(same: Sequence[Finding]) -> Finding:
    """One finding for all with the same problem of the same subject: the one that says most of it."""
    chosen = next((one for one in same if not one.code.startswith("area-")), same[0])
    others = [one.area for one in same if one.area != chosen.area]
    if not others:
        return chosen
    return replace(chosen, problem=f"{chosen.problem}; not checked therefore: {', '.join(dict.fromkeys(others))}")


def _in_order(findings: Sequence[Finding], areas: Sequence[str]) -> list[Finding]:
    with_findings = {finding.area for finding in findings if finding.level != "ok" or finding.code == "area-skipped"}
    fine = [found("area-fine", area, "nothing is wrong", area=area) for area in areas if area not in with_findings]
    return sorted([*findings, *fine], key=lambda finding: AREAS.index(finding.area))


def _skipped(areas: Sequence[str], tasks: Sequence[Task], findings: Sequence[Finding]) -> Iterator[Finding]:
    looked_at = {*OFFLINE_AREAS, "versions"}.union(*(task.areas for task in tasks), (one.area for one in findings))
    for area in areas:
        if area not in looked_at:
            what = "the application has no Publisher" if area == "broker" else "no model is in a PostgreSQL database"
            yield found("area-skipped", area, what, area=area)


def _local_versions() -> Iterator[Finding]:
    today = datetime.now(timezone.utc).date()
    yield from versions.check_python((sys.version_info.major, sys.version_info.minor), today)
    for name in versions.LIBRARIES:
        yield from versions.check_library(name, version(name))


def _tasks(
    subject: Subject, areas: Sequence[str], specs: Sequence[SignalSpec], engines: Mapping[str | None, Engine]
) -> Iterator[Task]:
    of_database = [area for area in DATABASE_AREAS if area in areas]
    for key in {spec.bind_key: None for spec in specs}:
        if of_database and engines[key].dialect.name == "postgresql":
            there = [spec for spec in specs if spec.bind_key == key]
            same = [one for one in engines if one != key and address(engines[one]) == address(engines[key])]
            beside = [spec for spec in specs if spec.bind_key in same]
            elsewhere = partial(owners_elsewhere, specs, engines, key)
            checks = DatabaseChecks(key, engines[key], there, subject.config, beside, elsewhere)
            yield Task(of_database, partial(checks.run, of_database))
    of_broker = [area for area in BROKER_AREAS if area in areas]
    if of_broker and subject.app.extensions.get("signalbus_publishers"):
        yield Task(of_broker, partial(_check_brokers, subject, specs, of_broker))


def _check_brokers(subject: Subject, specs: Sequence[SignalSpec], areas: Sequence[str]) -> Iterator[Finding]:
    places: set[routes.Destination] = set()
    if "broker" in areas:
        places, findings = routes.find_destinations(subject.app, subject.bus, specs)
        yield from findings
    for publisher in subject.app.extensions["signalbus_publishers"]:
        is_default = publisher is subject.app.extensions.get("signalbus_rabbitmq")
        bound = publisher.bound_to(subject.app)
        yield from check_broker(bound, places if is_default else (), areas, send_probe=subject.send_probe)
