"""The table of options: names, types, defaults and help texts. Nothing here reads the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..application.outbox_tables.layouts import LAYOUTS
from ..application.outbox_tables.row_choice.where import condition
from ..option_types import read_choice, read_count, read_flag, read_seconds, read_text
from ..worker.retry_policy import PARK_AFTER
from .values import (
    HttpAddress,
    any_text,
    assignments,
    broker_url,
    columns,
    database_url,
    marks,
    read_http,
    read_texts,
    read_token,
    table_names,
    tables_file,
)

#: The prefix of an option's name in the environment, and in the application's configuration.
PREFIX = "SIGNALBUS_RELAY_"


@dataclass(frozen=True)
class Option:
    """An option of ``signalbus-relay run``.

    :param name: on the command line, without dashes.
    :param field: of :class:`~relay.config.resolve.RelayConfig`, which has to have it.
    :param parse: turns a text, or a value of the application's configuration, into the value; its ValueError says what
      is expected.
    :param default: used when nothing else gives a value.
    :param fallbacks: environment variables that are used when nothing else gives a value.
    :param is_secret: may also come from a file whose path is in the variable with ``_FILE``; its value is never shown.
    """

    name: str
    field: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    metavar: str = ""
    many: bool = False
    is_flag: bool = False
    is_secret: bool = False
    fallbacks: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its name in the environment, and in the application's configuration."""
        return PREFIX + self.name.upper().replace("-", "_")


#: All options, in the order of ``--help``.
OPTIONS: tuple[Option, ...] = (
    Option(
        "app",
        "app",
        read_text,
        None,
        "The application: MODULE:ATTRIBUTE, an app or a factory, for example shop:create_app.",
        "MODULE:ATTRIBUTE",
        fallbacks=("FLASK_APP",),
    ),
    Option(
        "metadata",
        "metadata",
        read_text,
        None,
        "The base class of SQLAlchemy models that need no Flask application, for example shop.models:Base.",
        "MODULE:BASE",
    ),
    Option("import", "imports", read_texts, (), "A module that defines further signal models.", "MODULE", many=True),
    Option(
        "signals", "signals", read_texts, (), "Relay only this signal model. May be given again.", "NAME", many=True
    ),
    Option(
        "table",
        "table_names",
        table_names,
        (),
        "An outbox table to relay without an application, perhaps with its schema. May be given again.",
        "TABLE",
        many=True,
    ),
    Option(
        "tables",
        "tables_file",
        tables_file,
        (),
        "A file about such tables, in TOML, or in JSON if its name ends in .json.",
        "FILE",
    ),
    Option(
        "map",
        "assignments",
        assignments,
        (),
        "The field that a column of such tables is, for example payload=body. May be given again.",
        "[TABLE.]COLUMN=FIELD",
        many=True,
    ),
    Option("preset", "preset", read_choice(*LAYOUTS), None, f"A layout of such tables: {', '.join(LAYOUTS)}.", "NAME"),
    Option(
        "exchange",
        "exchange",
        any_text,
        None,
        "The exchange of such rows that name none.",
        "NAME",
    ),
    Option(
        "routing-key",
        "routing_key",
        any_text,
        None,
        "The routing key of such rows that name none.",
        "KEY",
    ),
    Option(
        "where",
        "where",
        condition,
        None,
        "Which rows of such tables are to be sent, as a condition of SQL, for example status = 'NEW'.",
        "CONDITION",
    ),
    Option(
        "not-before",
        "not_before",
        columns,
        (),
        "A column of such tables with a time before which a row is not to be sent. May be given again.",
        "COLUMN",
        many=True,
    ),
    Option(
        "all-rows",
        "all_rows",
        read_flag,
        False,
        "Every row of such tables is to be sent, whatever its columns say.",
        is_flag=True,
    ),
    Option(
        "done",
        "done",
        marks,
        None,
        "What marks a row of such tables as sent, instead of deleting it, for example status = 'SENT'; - deletes it.",
        "ASSIGNMENTS",
    ),
    Option(
        "keep-days",
        "keep_days",
        read_count(1, 36_500),
        None,
        "For so many days what was sent of such tables is kept in signalbus_sent; without it, nothing is.",
        "DAYS",
    ),
    Option(
        "database-url",
        "database_url",
        database_url,
        None,
        "The database of such tables or models; several hosts as libpq writes them: user@h1:5432,h2:5432/db.",
        "URL",
        is_secret=True,
        fallbacks=("DATABASE_URL",),
    ),
    Option(
        "amqp-url",
        "amqp_url",
        broker_url,
        None,
        "The broker, instead of the application's SIGNALBUS_RABBITMQ_URL. Several nodes: their URLs, with commas.",
        "URL",
        is_secret=True,
    ),
    Option("workers", "workers", read_count(1, 64), 2, "Threads that send bursts.", "N"),
    Option(
        "poll-interval",
        "poll_interval_seconds",
        read_seconds(0.05, 3600),
        1.0,
        "The longest pause between two polls.",
        "SECONDS",
    ),
    Option(
        "fresh-first",
        "fresh_first",
        read_flag,
        False,
        "While a model has a backlog, every other burst takes its new signals.",
        is_flag=True,
    ),
    Option(
        "doorbell",
        "doorbell",
        read_choice("auto", "off"),
        "auto",
        "auto: be woken by the doorbells of the tables that have one; off: poll only.",
        "auto|off",
    ),
    Option(
        "statement-timeout",
        "statement_timeout_seconds",
        read_seconds(0.1, 3600),
        30.0,
        "The longest that one statement of a burst may run.",
        "SECONDS",
    ),
    Option(
        "lock-timeout",
        "lock_timeout_seconds",
        read_seconds(0.01, 3600),
        5.0,
        "The longest that a burst waits for a lock, for example behind an ALTER TABLE.",
        "SECONDS",
    ),
    Option(
        "idle-timeout",
        "idle_timeout_seconds",
        read_seconds(0.1, 86400),
        120.0,
        "The longest that a burst's transaction waits for the send method; then PostgreSQL ends it.",
        "SECONDS",
    ),
    Option(
        "park-after",
        "park_after",
        read_count(1, 1000),
        PARK_AFTER,
        "A signal that fails so often for its own sake is parked: it waits for a person.",
        "ATTEMPTS",
    ),
    Option(
        "drain-timeout",
        "drain_timeout_seconds",
        read_seconds(0, 3600),
        30.0,
        "How long bursts in flight may take to end when the relay is stopped.",
        "SECONDS",
    ),
    Option(
        "stall-after",
        "stall_after_seconds",
        read_seconds(1, 86400),
        180.0,
        "A thread without progress for so long makes /livez fail.",
        "SECONDS",
    ),
    Option(
        "http",
        "http",
        read_http,
        HttpAddress("127.0.0.1", 9109),
        "Where health and metrics are served; port 0 takes a free one, off serves nothing.",
        "HOST:PORT",
    ),
    Option(
        "http-hosts",
        "http_hosts",
        read_texts,
        (),
        "A host name that the HTTP server answers to, beside localhost and addresses. May be given again.",
        "NAME",
        many=True,
    ),
    Option(
        "operator-token",
        "operator_token",
        read_token,
        None,
        "Whoever knows it may retry, discard, pause and resume over HTTP; without it nobody may.",
        "TOKEN",
        is_secret=True,
    ),
    Option(
        "discard-record",
        "discard_record",
        read_text,
        None,
        "Signals discarded over HTTP are added to this file; without it they can only be discarded by the command.",
        "FILE",
    ),
    Option("log-format", "log_format", read_choice("text", "json"), "text", "text or json.", "FORMAT"),
    Option(
        "log-level",
        "log_level",
        read_choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "DEBUG, INFO, WARNING or ERROR.",
        "LEVEL",
    ),
    Option(
        "until-empty",
        "until_empty",
        read_flag,
        False,
        "Send what is pending, then end: 0 when nothing is left, 1 when something could not be sent.",
        is_flag=True,
    ),
)
