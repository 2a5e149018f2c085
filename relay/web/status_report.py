"""The status report: one object, for ``/api/status`` and for the page.

Invariant: it is made only from the recorded status of the relay's threads; it queries neither database nor broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

from signalbus_core.lowlevel import BlockedKey

from .. import __version__
from ..replicas.replica import OwnReport, sum_of
from ..replicas.thread import Replicas
from ..telemetry.events import HeldHorizon
from ..telemetry.health import Health
from ..telemetry.incidents import Incident, Incidents, single_signals
from ..telemetry.remedies import without_remedy
from ..telemetry.snapshots import ModelStatus, Paused
from ..telemetry.states import BACKLOG_COUNTED_TO, ModelState, ModelStates
from ..telemetry.status import Status
from ..telemetry.throughput import BUCKET_SECONDS
from ..text import time_text
from .verdict import verdict_of


@dataclass(frozen=True)
class ShownDatabase:
    """A database of the application.

    :param bind_key: its bind key in the application.
    :param thing: the subject of its incidents, and the name under which it is polled.
    :param location: without password.
    """

    bind_key: str | None
    thing: str
    location: str


class StatusReport:
    """Makes the status report.

    :param replicas: this relay and the others; this one alone when not given.
    """

    def __init__(
        self,
        status: Status,
        health: Health,
        incidents: Incidents,
        databases: Sequence[ShownDatabase] = (),
        replicas: Replicas | None = None,
    ) -> None:
        self._status = status
        self._health = health
        self._incidents = incidents
        self._databases = databases
        self._replicas = replicas or Replicas(OwnReport(status, health, incidents))
        self._states = ModelStates(status, health, incidents)

    def as_object(self, failed: Mapping[str, tuple[int, int]] = MappingProxyType({})) -> dict[str, Any]:
        """The whole report, in types of JSON.

        :param failed: how many signals of models are waiting and parked, where the reader has counted them, so that all
          numbers of a page are of one moment; else those of the last measurement.
        """
        readiness = self._health.readiness()
        troubles = self._incidents.lasting()
        known = [_counted(model, failed.get(model.name)) for model in self._status.models()]
        states = {model.name: self._states.of_known(model) for model in known}
        models = self._models(troubles, known, states)
        databases = [self._database(one) for one in self._databases]
        stalled = self._health.stalled()
        replicas, problem = self._replicas.shown(), self._replicas.problem
        notes = [*stalled, *_notes_of_models(models), *_notes_of_databases(databases)]
        return {
            "verdict": verdict_of(readiness, states, notes).as_object(),
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
            "replicas": [one.as_object() for one in replicas],
            "all_replicas": sum_of(replicas, problem),
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """The state of each model, and its reason."""
        return {model.name: _state(self._states.of(model.name)) for model in self._status.models()}

    def _database(self, one: ShownDatabase) -> dict[str, Any]:
        known = self._health.database_at(one.thing)
        return {
            "name": one.bind_key or "default",
            "location": one.location,
            "condition": known.condition,
            "since": moment(known.since) if known.condition == "down" else None,
            "reason": known.reason,
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

    def _models(
        self,
        troubles: Mapping[str, Incident],
        known: Sequence[ModelStatus],
        states: Mapping[str, ModelState],
    ) -> list[dict[str, Any]]:
        last = self._incidents.last_of_signals()
        return [
            {
                **_model(model, states[model.name], _troubles_of(model, states[model.name], troubles.values())),
                "last_error": _error(last.get(model.name)),
            }
            for model in known
        ]


def _troubles_of(model: ModelStatus, state: ModelState, troubles: Iterable[Incident]) -> list[Incident]:
    """The incidents of a model; where all of its signals fail, that tells of single ones."""
    told = single_signals(model.name) if state.word == "failing" and model.failure is not None else None
    return [one for one in troubles if one.signal == model.name and one.thing != told]


def _counted(model: ModelStatus, failed: tuple[int, int] | None) -> ModelStatus:
    if model.gauge is None or failed is None:
        return model
    waiting, parked = failed
    backlog = max(model.gauge.backlog, waiting + parked)
    return replace(model, gauge=replace(model.gauge, waiting=waiting, parked=parked, backlog=backlog))


def _model(model: ModelStatus, state: ModelState, troubles: Sequence[Incident]) -> dict[str, Any]:
    gauge = model.gauge
    return {
        "name": model.name,
        "state": state.word,
        "state_reason": state.reason,
        "state_since": state.since and moment(state.since),
        "to_do": state.remedy and state.remedy.text,
        "runbook": state.remedy and state.remedy.runbook,
        "measured_at": moment(gauge.at) if gauge else None,
        "backlog": gauge.backlog if gauge else None,
        "backlog_counted_to": BACKLOG_COUNTED_TO,
        "lag_seconds": round(gauge.lag_seconds, 1) if gauge else None,
        "scheduled": gauge.scheduled if gauge else None,
        "paused": _paused(model.paused),
        "waiting": gauge.waiting if gauge else None,
        "parked": gauge.parked if gauge else None,
        "blocked_keys": gauge.blocked_keys if gauge else None,
        "blocked_by": [_blocked_by(one) for one in gauge.blocked_by] if gauge else None,
        "sent": model.sent,
        "last_sent_at": moment(model.sent_at) if model.sent_at else None,
        "per_second": round(model.per_second, 1),
        "chart": {"bucket_seconds": BUCKET_SECONDS, "counts": list(model.counts)},
        "failing": state.word == "failing",
        "troubles": [{"since": moment(one.since), "reason": without_remedy(one.reason)} for one in troubles],
    }


def _blocked_by(one: BlockedKey) -> dict[str, Any]:
    return {"key": one.head, "parked_since": time_text(one.parked_since), "waiting_behind": one.behind}


def _state(state: ModelState) -> dict[str, Any]:
    return {
        "state": state.word,
        "reason": state.reason,
        "since": state.since and moment(state.since),
        "to_do": state.remedy and state.remedy.text,
    }


def _paused(paused: Paused | None) -> dict[str, Any] | None:
    return None if paused is None else {"seen_at": moment(paused.seen_at), "reason": paused.reason or None}


def _error(trouble: Incident | None) -> dict[str, Any] | None:
    return None if trouble is None else {"at": moment(trouble.at), "reason": trouble.reason}


def _notes_of_models(models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What needs attention, by model."""
    for model in models:
        name = model["name"]
        if model["paused"]:
            yield f"{name} is paused."
        if model["parked"]:
            yield f"{name}: {_signals(model['parked'])} parked, waiting for a person."
        if model["blocked_keys"]:
            number = model["blocked_keys"]
            yield (
                f"{name}: {number:,} {'key is' if number == 1 else 'keys are'} held back by a signal that failed; "
                "see its model, or `signalbus-relay parked list`."
            )
        # Of a model that fails the headline tells.
        if model["waiting"] and not model["failing"]:
            yield f"{name}: {_signals(model['waiting'])} waiting for the next try."


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
