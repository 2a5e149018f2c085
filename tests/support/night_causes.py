"""What each place must say about what goes wrong at night."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from . import night_faults as faults
from .night import Night
from .processes import RelayProcess


@dataclass(frozen=True)
class Cause:
    """Something that goes wrong, and what each place must say.

    :param why: a pattern of its reason, which all places give.
    :param word: for the state of the model; None: signals flow.
    :param to_do: how the advice begins that all places give.
    :param action: of the log line.
    :param finding: of ``check``.
    :param alert: None: it takes longer than a test.
    """

    make: Callable[[Night], AbstractContextManager[None]]
    why: str
    word: str | None
    to_do: str
    action: str
    finding: str
    alert: str | None = None

    @property
    def name(self) -> str:
        return self.make.__name__.replace("_", " ")


BROKER_RUNS = "Check that the broker runs, and the host and port in its URL"

#: In this order: each begins where the one before has left the shop, and the broker stays away after the last.
CAUSES = (
    Cause(
        faults.full_table,
        "10,000 signals or more are pending",
        "behind",
        "See that relays run and send",
        "",
        "backlog-high",
    ),
    Cause(
        faults.held_snapshot,
        r"session with pid \d+ .*report",
        None,
        "Have its application end",
        "horizon_held",
        "horizon-held",
    ),
    Cause(
        faults.parked_signal,
        "ValueError: it has no currency",
        None,
        "Mend the code that makes the message",
        "signal_parked",
        "signals-parked",
        "SignalbusSignalsParked",
    ),
    Cause(
        faults.missing_exchange,
        "404 NOT_FOUND - no exchange",
        "failing",
        "Declare the exchange",
        "signals_set_aside",
        "exchange-missing",
        "SignalbusPublishFailing",
    ),
    Cause(
        faults.missing_binding,
        "312 NO_ROUTE",
        "failing",
        "Bind a queue to",
        "signals_set_aside",
        "model-failing",
        "SignalbusMessagesReturned",
    ),
    Cause(
        faults.locked_table,
        r"session with pid \d+ \(migration\)",
        "blocked",
        "Wait until",
        "model_failing",
        "model-blocked",
        "SignalbusModelBlocked",
    ),
    Cause(
        faults.full_disk,
        "low on disk",
        "blocked",
        "Free memory or disk space of the broker",
        "broker_blocked",
        "broker-blocked",
        "SignalbusBrokerBlocked",
    ),
    Cause(
        faults.other_password,
        "the login was refused",
        "blocked",
        "Set the right user and password in the URL",
        "broker_down",
        "broker-login",
        "SignalbusBrokerDown",
    ),
    Cause(
        faults.killed_database,
        "onnection refused",
        "blocked",
        "Check that the database runs",
        "database_down",
        "database-unreachable",
        "SignalbusDatabaseDown",
    ),
    Cause(
        faults.stopped_broker,
        "nothing listens there",
        "blocked",
        BROKER_RUNS,
        "broker_down",
        "broker-unreachable",
        "SignalbusBrokerDown",
    ),
)


@dataclass(frozen=True)
class Said:
    """What one relay says at one moment, and what commands say."""

    status: dict[str, Any]
    ready: dict[str, Any]
    page: str
    metrics: str
    log: list[dict[str, Any]]

    @property
    def model(self) -> dict[str, Any]:
        [order] = [one for one in self.status["models"] if one["name"] == "Order"]
        return dict(order)

    @property
    def head(self) -> str:
        verdict = self.status["verdict"]
        return "\n".join([verdict["text"], verdict["to_do"] or "", *verdict["notes"]])

    @property
    def has_state_metric(self) -> bool:
        line = f'signalbus_model_state{{signal="Order",state="{self.model["state"]}"}} 1.0'
        return line in self.metrics.splitlines()


def log_sizes(night: Night) -> list[int]:
    """How many lines each relay has logged."""
    return [len(relay.logs()) for relay in night.relays]


def hear(night: Night, relay: RelayProcess, before: Sequence[int]) -> Said:
    """What a relay says, and what the log of all relays says since: whoever has tried a signal tells of it."""
    logs = zip(night.relays, before, strict=True)
    return Said(
        json.loads(relay.get("/api/status")[1]),
        relay.readiness(),
        relay.get("/")[1],
        relay.get("/metrics")[1],
        [line for one, count in logs for line in one.logs()[count:]],
    )


def agrees(cause: Cause, said: Said) -> list[str]:
    """The places of a relay that do not say yet what they must."""
    verdict, model, ready = said.status["verdict"], said.model, said.ready["models"]["Order"]
    lines = [line for line in said.log if line.get("action") == cause.action]
    is_told = {
        "page": re.search(cause.why, said.page) and cause.to_do in said.page,
        "metrics": said.has_state_metric,
        "log": not cause.action or any(re.search(cause.why, line["message"]) for line in lines),
    }
    if cause.word is None:
        is_told["headline"] = verdict["level"] == "attention"
    else:
        is_told["headline"] = re.search(cause.why, verdict["text"]) and verdict["to_do"].startswith(cause.to_do)
        is_told["badge"] = model["state"] == cause.word and model["to_do"] == verdict["to_do"]
        is_told["readyz"] = (ready["state"], ready["to_do"]) == (cause.word, verdict["to_do"])
        is_told["since"] = cause.word == "behind" or ready["since"] == model["state_since"] is not None
        is_told["advice in the log"] = not lines or lines[-1]["to_do"].startswith(cause.to_do)
    return [place for place, told in is_told.items() if not told]


def commands(night: Night) -> dict[str, str]:
    """What the commands say."""
    key = night.first_key()
    asked = {"pending": ("pending",), "explain": ("explain", "Order", key), "check": ("check",)}
    done = {name: night.shop.command(*arguments) for name, arguments in asked.items()}
    return {name: one.stdout + one.stderr for name, one in done.items()}


def is_well(night: Night) -> bool:
    """Whether nothing is wrong any more."""
    statuses = [json.loads(relay.get("/api/status")[1]) for relay in night.relays]
    return all(status["verdict"]["level"] == "flowing" for status in statuses)
