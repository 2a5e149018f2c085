"""What a relay says of itself, as a value and as the text of its row. Pure, apart from the names of host and process.

Invariant: no text in it holds a password or a payload, and a row is so small that PostgreSQL stores it in one piece.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from signalbus_core.lowlevel import one_line

from .. import __version__
from ..telemetry.health import Health
from ..telemetry.incidents import Incidents
from ..telemetry.states import ModelStates
from ..telemetry.status import Status
from ..text import redact, time_text

#: A replica that has said nothing for so long is shown as silent, and does not count. Shorter: a relay that is slow
#: for a moment counts as silent.
SILENT_AFTER_SECONDS = 30.0

#: The largest report, in bytes. Larger: more models are named; a row above 2,000 bytes is stored in two tables.
MOST_BYTES = 1400

#: At most so many models are named. Larger: a report is made more slowly where no model flows.
MOST_NAMED = 12

#: The longest name, and the longest reason, in characters.
LONGEST_NAME = 100
LONGEST_REASON = 160

#: The states of a model whose signals flow, as far as that is known.
_WELL = ("flowing", "behind", "idle", None)


@dataclass(frozen=True)
class NotFlowing:
    """A model whose signals do not flow as they should, and why."""

    model: str
    state: str
    reason: str | None


@dataclass(frozen=True)
class Report:
    """What a relay does.

    :param state: of the process.
    :param workers: how many threads send bursts.
    :param broker: the condition of all brokers together; ``database`` likewise.
    :param sent: signals since it started.
    :param more_not_flowing: how many models do not flow, beside those that are named.
    """

    state: str
    ready: bool
    workers: int
    broker: str
    database: str
    per_second: float
    sent: int
    not_flowing: tuple[NotFlowing, ...] = ()
    more_not_flowing: int = 0

    def as_text(self) -> str:
        """The text of the row: JSON, with as many models as it has room for."""
        more = self.more_not_flowing + len(self.not_flowing[MOST_NAMED:])
        report = replace(self, not_flowing=self.not_flowing[:MOST_NAMED], more_not_flowing=more)
        while len(text := json.dumps(asdict(report))) > MOST_BYTES and report.not_flowing:
            named = report.not_flowing[:-1]
            report = replace(report, not_flowing=named, more_not_flowing=report.more_not_flowing + 1)
        return text

    @classmethod
    def from_text(cls, text: str) -> Report:
        """The report in a row, which a relay of another version may have written.

        :raises ValueError: it is none.
        """
        try:
            known = json.loads(text)
            return cls(
                str(known["state"]),
                bool(known["ready"]),
                int(known["workers"]),
                str(known["broker"]),
                str(known["database"]),
                float(known["per_second"]),
                int(known["sent"]),
                tuple(
                    NotFlowing(str(one["model"]), str(one["state"]), one["reason"] and str(one["reason"]))
                    for one in known["not_flowing"]
                ),
                int(known["more_not_flowing"]),
            )
        except (KeyError, TypeError, OverflowError, ValueError) as error:
            raise ValueError("this is no report of a relay") from error


@dataclass(frozen=True)
class Replica:
    """A relay, and what it said last.

    :param id: of the process.
    :param name: the host's name, with the number of the process where there may be others.
    :param silent_seconds: how long ago it said so, by the database's clock.
    :param is_this: it is the relay that shows it.
    """

    id: str
    name: str
    host: str
    version: str
    started_at: datetime
    report: Report
    silent_seconds: float = 0.0
    is_this: bool = False

    @property
    def is_silent(self) -> bool:
        return self.silent_seconds > SILENT_AFTER_SECONDS

    def as_object(self) -> dict[str, Any]:
        """In types of JSON."""
        report = asdict(self.report)
        return {
            "id": self.id,
            "name": self.name,
            "host": self.host,
            "version": self.version,
            "started_at": time_text(self.started_at),
            "is_this": self.is_this,
            "is_silent": self.is_silent,
            "silent_seconds": round(max(0.0, self.silent_seconds), 1),
            **report,
            "per_second": round(self.report.per_second, 1),
            "not_flowing": list(report["not_flowing"]),
        }


def sum_of(replicas: Sequence[Replica], problem: str | None) -> dict[str, Any]:
    """What all replicas do together, those left out that are silent; in types of JSON."""
    counted = [one.report for one in replicas if not one.is_silent]
    return {
        "number": len(counted),
        "workers": sum(one.workers for one in counted),
        "per_second": round(sum(one.per_second for one in counted), 1),
        "problem": problem,
    }


@dataclass(frozen=True)
class OwnReport:
    """What this relay says of itself, from what its listeners know."""

    status: Status
    health: Health
    incidents: Incidents
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def now(self) -> Replica:
        host, process = socket.gethostname()[:LONGEST_NAME], os.getpid()
        return Replica(
            self.id,
            # In a container, whose host name is its own, the relay is the only process.
            host if process == 1 else f"{host}-{process}",
            host,
            __version__,
            datetime.fromtimestamp(self.status.started_at, tz=timezone.utc),
            self._report(),
            is_this=True,
        )

    def _report(self) -> Report:
        readiness, models = self.health.readiness(), self.status.models()
        states = ModelStates(self.status, self.health, self.incidents)
        known = [(model.name, states.of_known(model)) for model in models]
        return Report(
            readiness["state"],
            readiness["ready"],
            len(self.status.workers()),
            readiness["broker"]["condition"],
            readiness["database"]["condition"],
            round(sum(model.per_second for model in models), 2),
            sum(model.sent for model in models),
            tuple(
                NotFlowing(name[:LONGEST_NAME], str(state.word), state.reason and _short(state.reason))
                for name, state in known
                if state.word not in _WELL
            ),
        )


def _short(reason: str) -> str:
    return one_line(redact(reason))[:LONGEST_REASON]
