"""The status report: one object, for ``/api/status`` and for the page.

Invariant: it is made only from the recorded status of the relay's threads; it queries neither database nor broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from .. import __version__
from ..telemetry.events import HeldHorizon
from ..telemetry.health import Health
from ..telemetry.incidents import Incident, Incidents
from ..telemetry.states import BACKLOG_COUNTED_TO, ModelState, ModelStates
from ..telemetry.status import ModelStatus, Paused, Status
from ..telemetry.throughput import BUCKET_SECONDS


@dataclass(frozen=True)
class ShownDatabase:
    """A database of the application.

    :param bind_key: its bind key in the application.
    :param thing: the subject of its incidents.
    :param location: without password.
    """

    bind_key: str | None
    thing: str
    location: str


class StatusReport:
    """Makes the status report."""

    def __init__(
        self,
        status: Status,
        health: Health,
        incidents: Incidents,
        databases: Sequence[ShownDatabase] = (),
    ) -> None:
        self._status = status
        self._health = health
        self._incidents = incidents
        self._databases = databases
        self._states = ModelStates(status, health, incidents)

    def as_object(self) -> dict[str, Any]:
        """The whole report, in types of JSON."""
        readiness = self._health.readiness()
        troubles = self._incidents.lasting()
        models = self._models(troubles)
        databases = [self._database(one, readiness["database"], troubles) for one in self._databases]
        stalled = self._health.stalled()
        notes = [*stalled, *_notes_of_models(models), *_notes_of_databases(databases)]
        return {
            "verdict": _verdict(readiness, notes, [model["name"] for model in models if model["state"] == "failing"]),
            "relay": {
                "state": readiness["state"],
                "ready": readiness["ready"],
                "version": __version__,
                "started_at": moment(self._status.started_at),
                "uptime_seconds": round(self._status.uptime_seconds, 1),
                "last_success_at": max((model["last_sent_at"] or "" for model in models), default="") or None,
                "reasons": [*readiness["reasons"], *stalled],
            },
            "databases": databases,
            "brokers": self._brokers(),
            "models": models,
            "workers": [
                {
                    "name": worker.name,
                    "doing": worker.doing,
                    "model": worker.model,
                    "signals": worker.signals,
                    "seconds": round(worker.seconds, 1),
                }
                for worker in self._status.workers()
            ],
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of each model, and its reason."""
        states = {model.name: self._states.of(model.name) for model in self._status.models()}
        return {name: {"state": state.word, "reason": state.reason} for name, state in states.items()}

    def _database(
        self, one: ShownDatabase, together: dict[str, Any], troubles: Mapping[str, Incident]
    ) -> dict[str, Any]:
        trouble = troubles.get(one.thing)
        condition = "down" if trouble else "unknown" if together["condition"] == "unknown" else "up"
        return {
            "name": one.bind_key or "default",
            "location": one.location,
            "condition": condition,
            "since": moment(trouble.since) if trouble else None,
            "reason": trouble.reason if trouble else None,
            "horizon": _horizon(self._status.horizons().get(one.bind_key)),
        }

    def _brokers(self) -> list[dict[str, Any]]:
        return [
            {
                "location": location or None,
                "nodes": [{"worker": worker, "node": node} for worker, node in self._status.nodes(location).items()],
                "condition": known.condition,
                "since": None if known.is_usable else moment(known.since),
                "reason": known.reason,
            }
            for location, known in self._health.brokers().items()
        ]

    def _models(self, troubles: Mapping[str, Incident]) -> list[dict[str, Any]]:
        last = self._incidents.last_of_signals()
        return [
            {
                **_model(
                    model,
                    self._states.of(model.name),
                    [one for one in troubles.values() if one.signal == model.name],
                ),
                "last_error": _error(last.get(model.name)),
            }
            for model in self._status.models()
        ]


def _model(model: ModelStatus, state: ModelState, troubles: Sequence[Incident]) -> dict[str, Any]:
    gauge = model.gauge
    return {
        "name": model.name,
        "state": state.word,
        "state_reason": state.reason,
        "measured_at": moment(gauge.at) if gauge else None,
        "backlog": gauge.backlog if gauge else None,
        "backlog_counted_to": BACKLOG_COUNTED_TO,
        "lag_seconds": round(gauge.lag_seconds, 1) if gauge else None,
        "paused": _paused(model.paused),
        "waiting": gauge.waiting if gauge else None,
        "parked": gauge.parked if gauge else None,
        "sent": model.sent,
        "last_sent_at": moment(model.sent_at) if model.sent_at else None,
        "per_second": round(model.per_second, 1),
        "chart": {"bucket_seconds": BUCKET_SECONDS, "counts": list(model.counts)},
        "failing": state.word == "failing",
        "troubles": [{"since": moment(one.since), "reason": one.reason} for one in troubles],
    }


def _paused(paused: Paused | None) -> dict[str, Any] | None:
    return None if paused is None else {"seen_at": moment(paused.seen_at), "reason": paused.reason or None}


def _error(trouble: Incident | None) -> dict[str, Any] | None:
    return None if trouble is None else {"at": moment(trouble.at), "reason": trouble.reason}


def _verdict(readiness: Mapping[str, Any], notes: list[str], failing: Sequence[str]) -> dict[str, Any]:
    """The head of the report: whether signals flow, in a sentence; and what needs attention.

    :param failing: the models of which everything fails.
    """
    if stuck := _stuck(readiness):
        level, text = "stopped", f"Signals of {stuck} do not flow."
    elif not readiness["ready"]:
        level, text = "stopped", f"Signals cannot flow: {_cause(readiness).rstrip('.')}."
    elif failing:
        level, text = "stopped", f"Signals of {', '.join(failing)} fail."
    elif notes:
        level, text = "attention", "Signals flow, with exceptions."
    else:
        level, text = "flowing", "Signals flow."
    return {"level": level, "text": text, "notes": notes}


def _cause(readiness: Mapping[str, Any]) -> str:
    if readiness["state"] != "running":
        return f"the relay is {readiness['state']}"
    for thing in ("database", "broker"):
        condition, since = readiness[thing]["condition"], readiness[thing]["since"]
        why = f"{since[11:16]} UTC: {str(readiness[thing]['reason']).removeprefix('Database: ')}"
        if condition == "down":
            return f"the {thing} is away since {why}"
        if condition == "blocked":
            return f"the {thing} takes no messages since {why}"
        if condition == "unknown":
            return f"of the {thing} nothing is known yet"
    return str(readiness["reasons"][0])


def _stuck(readiness: Mapping[str, Any]) -> str | None:
    """The models whose signals do not flow, while database and broker are up."""
    there = all(readiness[thing]["condition"] in ("up", "unused") for thing in ("database", "broker"))
    return ", ".join(readiness["stuck_models"]) if readiness["state"] == "running" and there else None


def _notes_of_models(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What needs attention, by model."""
    for model in models:
        name = model["name"]
        if model["paused"]:
            yield f"{name} is paused."
        if model["parked"]:
            yield f"{name}: {_signals(model['parked'])} parked, waiting for a person."
        if model["waiting"]:
            yield f"{name}: {_signals(model['waiting'])} waiting for the next try."
        if model["failing"]:
            yield f"{name} is failing."
        if model["state"] == "behind":
            yield f"{name}: {model['state_reason']}."


def _notes_of_databases(databases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for horizon in filter(None, (database["horizon"] for database in databases)):
        yield (
            f"Dead rows of {', '.join(horizon['models'])} cannot be removed. They are kept alive by: "
            f"{horizon['holder']}. {horizon['remedy']}"
        )


def _horizon(held: HeldHorizon | None) -> dict[str, Any] | None:
    return None if held is None else {**asdict(held), "models": list(held.models), "seconds": round(held.seconds, 1)}


def _signals(number: int) -> str:
    return f"{number:,} {'signal is' if number == 1 else 'signals are'}"


def moment(seconds: float) -> str:
    """A time of the wall clock, in UTC, to the second."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
