"""Findings of checks, and the list of all their codes.

Codes are part of the public interface: people exclude them, and scripts search for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "ok"]

#: All areas, in the order in which they are shown.
AREAS = ("config", "models", "versions", "tables", "signals", "session", "bloat", "doorbell", "broker")

#: The areas that need no server.
OFFLINE_AREAS = ("config", "models")


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its area, its level, and its meaning."""

    area: str
    level: Level
    meaning: str


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    :param subject: what it is about: a model, a server, a setting.
    :param problem: what is wrong; at level ``ok``, what was found.
    :param remedy: what to do, in one sentence; empty at level ``ok``.
    """

    code: str
    area: str
    level: Level
    subject: str
    problem: str
    remedy: str


#: All kinds of findings, by code.
KINDS: dict[str, Kind] = {
    "app-not-loaded": Kind("config", "error", "the application cannot be imported or made"),
    "app-without-models": Kind("config", "error", "the application has no signal bus or no signal model"),
    "uri-driver": Kind("config", "warning", "a database URL names no driver"),
    "driver-unsupported": Kind("config", "error", "an engine uses another driver than psycopg2 or psycopg"),
    "pool-too-small": Kind("config", "error", "an engine pools fewer connections than a relay needs"),
    "database-url": Kind("config", "error", "client library or server rejects the connection parameters of a database"),
    "http-any-name": Kind("config", "warning", "the HTTP server listens for others, and accepts any host name"),
    "fencing-unsure": Kind("config", "error", "a relay that was stopped could send signals of a key late"),
    "broker-url": Kind("config", "error", "the broker's URL is missing or cannot be used"),
    "model-contract": Kind("models", "error", "a model does not keep the signal-model contract"),
    "signals-unknown": Kind("models", "error", "`--signals` names a model that does not exist"),
    "message-undefined": Kind("models", "error", "a `RabbitMQSignal` does not define `signalbus_message`"),
    "signal-id-missing": Kind(
        "models", "warning", "a model has no column `signalbus_id`: ids of messages may come again"
    ),
    "library-unsupported": Kind("versions", "error", "SQLAlchemy or pika has another version than was tested"),
    "python-out-of-support": Kind("versions", "warning", "this Python gets no more fixes"),
    "postgresql-too-old": Kind("versions", "error", "PostgreSQL is older than 14"),
    "postgresql-out-of-support": Kind("versions", "warning", "this PostgreSQL gets no more fixes"),
    "rabbitmq-out-of-support": Kind("versions", "warning", "RabbitMQ is older than 3.13"),
    "table-missing": Kind("tables", "error", "a signal table does not exist"),
    "table-unfit": Kind(
        "tables",
        "error",
        "a signal table cannot serve: it is a view, has another key, lacks a column, or others inherit from it",
    ),
    "rows-unsettled": Kind(
        "tables", "error", "columns of a table say that not every row is to be sent, and no option says which are"
    ),
    "rows-early": Kind(
        "tables", "warning", "a table has a time before which rows are not to be sent, and `--where` ignores it"
    ),
    "schema-usage-missing": Kind("tables", "error", "the login may not use the schema of a table"),
    "privilege-missing": Kind("tables", "error", "the login lacks SELECT, DELETE or UPDATE on a table"),
    "table-unlogged": Kind("tables", "error", "a signal table is unlogged: a crash of the server empties it"),
    "table-referenced": Kind("tables", "error", "a foreign key keeps signals from being deleted once they are sent"),
    "row-security": Kind("tables", "warning", "row-level security may hide signals from the login"),
    "index-schedule": Kind("tables", "warning", "no index finds the scheduled signals that are due"),
    "index-order": Kind("tables", "warning", "no index has the order in which signals are read"),
    "parked-table": Kind("tables", "warning", "the table of parked signals is missing, or partly closed"),
    "order-unfit": Kind("tables", "error", "the signals of a model are not in the order of their commits"),
    "parked-table-old": Kind("tables", "warning", "an earlier version made the table of parked signals"),
    "paused-table": Kind("tables", "warning", "the table of paused models is missing, or partly closed"),
    "sent-table": Kind("tables", "warning", "what is sent cannot be kept, though a model is to keep it"),
    "model-paused": Kind("signals", "warning", "a model is paused"),
    "model-blocked": Kind("signals", "error", "a session has locked the table of a model, so that it cannot be read"),
    "condition-fails": Kind("signals", "error", "`--where` fails for a row, so that no row of the table is sent"),
    "model-failing": Kind("signals", "error", "most signals in the table of a model have failed"),
    "model-behind": Kind("signals", "warning", "the oldest signal of a model has been waiting for more than a minute"),
    "backlog-high": Kind("signals", "warning", "10,000 signals of a model or more are pending"),
    "key-unloadable": Kind("signals", "error", "signals are never sent: their keys are times that Python cannot hold"),
    "signals-parked": Kind("signals", "warning", "signals of a model are parked"),
    "signals-waiting": Kind("signals", "warning", "signals of a model failed, and wait for their next try"),
    "database-unreachable": Kind("session", "error", "the database does not answer"),
    "isolation-autocommit": Kind("session", "error", "the application's engine has no transactions"),
    "isolation-overridden": Kind("session", "ok", "the default isolation level is another than that of bursts"),
    "database-host": Kind("session", "ok", "which of several hosts in the URL has answered"),
    "database-standby": Kind("session", "error", "the database is a standby, which takes no writes"),
    "database-read-only": Kind("session", "error", "the login's transactions are read-only"),
    "timeout-too-short": Kind("session", "warning", "a time limit that bursts cannot change is shorter than theirs"),
    "timeout-overridden": Kind("session", "ok", "a time limit is shorter than that of bursts, which set their own"),
    "synchronous-commit-off": Kind("session", "warning", "a crash of the server can lose commits"),
    "fsync-off": Kind("session", "error", "a crash of the server can destroy the database"),
    "pooler-transaction-mode": Kind("session", "warning", "a pooler shares server connections between clients"),
    "pooler-statement-mode": Kind("session", "error", "a pooler allows no transactions"),
    "clock-skew": Kind("session", "warning", "the clocks of this machine and of the database differ"),
    "connections-too-few": Kind("session", "error", "the login may open fewer connections than a relay needs"),
    "autovacuum-unfit": Kind("bloat", "warning", "dead rows of a table are removed late, or never"),
    "horizon-held": Kind("bloat", "warning", "something old keeps dead rows from being removed"),
    "doorbell-unfit": Kind("doorbell", "warning", "a doorbell is missing, disabled or outdated"),
    "doorbell-undeliverable": Kind("doorbell", "warning", "a notification does not arrive, so relays poll"),
    "doorbell-two-phase": Kind("doorbell", "warning", "two-phase commit and doorbells exclude each other"),
    "doorbell-off": Kind("doorbell", "ok", "`--doorbell off`: relays poll"),
    "broker-unreachable": Kind("broker", "error", "the broker does not answer"),
    "broker-node": Kind("broker", "warning", "a node of the broker takes no connection, while another one does"),
    "broker-login": Kind("broker", "error", "the broker refuses the login"),
    "broker-vhost": Kind("broker", "error", "the virtual host is missing, or closed to the login"),
    "broker-channels": Kind("broker", "error", "the broker, or its URL, allows fewer channels than a relay needs"),
    "broker-limit": Kind("broker", "error", "a limit of connections is reached"),
    "broker-blocked": Kind("broker", "error", "an alarm is in force: the broker takes no messages"),
    "exchange-missing": Kind("broker", "error", "an exchange does not exist"),
    "exchange-refused": Kind("broker", "error", "an exchange is internal, or the login may not write to it"),
    "queue-missing": Kind("broker", "error", "the default exchange is used, and the queue does not exist"),
    "route-missing": Kind("broker", "error", "a routing key reaches no queue (only with `--send-probe`)"),
    "route-refused": Kind("broker", "error", "a queue refuses messages (only with `--send-probe`)"),
    "route-unproved": Kind("broker", "ok", "whether a routing key reaches a queue was not tried"),
    "message-fails": Kind("broker", "warning", "a pending signal has no message that can be sent"),
    "area-unreachable": Kind("", "error", "an area could not be checked, because its server does not answer"),
    "area-timeout": Kind("", "error", "an area could not be checked in time"),
    "area-failed": Kind("", "error", "an area could not be checked"),
    "area-skipped": Kind("", "ok", "there is nothing in an area that could be checked"),
    "area-fine": Kind("", "ok", "nothing is wrong in an area"),
}


def found(code: str, subject: str, problem: str, remedy: str = "", *, area: str | None = None) -> Finding:
    """A finding of a kind.

    :param area: for kinds that have no area.
    """
    kind = KINDS[code]
    return Finding(code, area or kind.area, kind.level, subject, problem, remedy)


def finding_of_text(code: str, subject: str, text: str) -> Finding:
    """A finding whose problem is the first sentence of a text, and whose remedy is the rest."""
    problem, _, remedy = text.partition(". ")
    return found(code, subject, problem.rstrip("."), remedy)
