"""The relay's configuration: one table of options, one frozen object, and all problems reported at once.

A value comes from the command line, else from the environment, else from the application's configuration, else it is
the default. Nothing here reads the environment itself; it is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from signalbus_core import BurstLimits

from .parking import PARK_AFTER
from .tables import values as of_tables
from .tables.names import TableName
from .tables.rules import PRESETS, Assignment, TableRules, combine
from .tables.subject import TELLING, subject_problems
from .tables.where import condition

#: A shorter operator token is refused: it could be guessed.
SHORTEST_TOKEN = 16

#: In front of an option's name in the environment, and in the application's configuration.
PREFIX = "SIGNALBUS_RELAY_"


class ConfigError(Exception):
    """The configuration cannot be used.

    :param problems: what is wrong, one sentence each, all of them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class HttpAddress:
    """Where the HTTP server listens. Port 0 stands for a free one."""

    host: str
    port: int


@dataclass(frozen=True)
class RelayConfig:
    """The configuration of ``signalbus-relay run``; see :data:`OPTIONS` for what each field means."""

    app: str
    imports: tuple[str, ...]
    signals: tuple[str, ...]
    table_names: tuple[TableName, ...]
    tables_file: tuple[TableRules, ...]
    assignments: tuple[Assignment, ...]
    preset: str | None
    exchange: str | None
    routing_key: str | None
    where: str | None
    not_before: tuple[str, ...]
    all_rows: bool
    database_url: str | None
    amqp_url: str | None
    workers: int
    poll_interval_seconds: float
    doorbell: str
    statement_timeout_seconds: float
    lock_timeout_seconds: float
    idle_timeout_seconds: float
    park_after: int
    drain_timeout_seconds: float
    stall_after_seconds: float
    http: HttpAddress | None
    http_hosts: tuple[str, ...]
    operator_token: str | None
    discard_record: str | None
    log_format: str
    log_level: str
    until_empty: bool

    @property
    def burst_limits(self) -> BurstLimits:
        """The time limits of a burst's transaction."""
        return BurstLimits(self.statement_timeout_seconds, self.lock_timeout_seconds, self.idle_timeout_seconds)

    @property
    def table_rules(self) -> list[TableRules]:
        """The tables to relay without an application, and what was said of each; empty when there is one."""
        return combine(self.table_names, self.tables_file, self.assignments, self._of_all_tables)[0]

    @property
    def _of_all_tables(self) -> TableRules:
        return TableRules(
            TableName(None, ""),
            {},
            self.preset,
            self.exchange,
            self.routing_key,
            self.where,
            self.not_before,
            self.all_rows or None,
        )


class _Invalid(Exception):
    """A value is not allowed; the text says what is."""


@dataclass(frozen=True)
class Option:
    """An option of ``signalbus-relay run``.

    :param name: on the command line, without dashes.
    :param parse: turns a text, or a value of the application's configuration, into the value.
    :param default: used when nothing else gives a value.
    :param fallbacks: names in the environment that are used when nothing else gives a value.
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


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Invalid("a text is expected")
    return value.strip()


def _texts(value: Any) -> tuple[str, ...]:
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple, set)) or not all(isinstance(part, str) for part in parts):
        raise _Invalid("names, separated by commas, are expected")
    return tuple(part for part in parts if part)


def _checked(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise _Invalid(str(error)) from None

    return parse


def _count(least: int, most: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise _Invalid(f"a whole number from {least} to {most} is expected")
        return number

    return parse


def _seconds(least: float, most: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        # A value that is not a number compares false with everything.
        if number is None or not least <= number <= most:
            raise _Invalid(f"seconds from {least:g} to {most:g} are expected")
        return number

    return parse


def _choice(*allowed: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        for choice in allowed:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        raise _Invalid(f"one of {', '.join(allowed)} is expected")

    return parse


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        return value.lower() in ("1", "true", "yes", "on")
    raise _Invalid("yes or no is expected")


def _http(value: Any) -> HttpAddress | None:
    text = _text(value)
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _Invalid("HOST:PORT (port 0 for a free one) or off is expected")
    return HttpAddress(host, int(port))


def _token(value: Any) -> str:
    text = _text(value)
    if len(text) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in text):
        raise _Invalid(
            f"at least {SHORTEST_TOKEN} letters, digits and signs without spaces are expected; "
            "`openssl rand -hex 32` prints a good one"
        )
    return text


#: Everything that can be set, in the order in which ``--help`` shows it.
OPTIONS: tuple[Option, ...] = (
    Option(
        "app",
        "app",
        _text,
        None,
        "The application: MODULE:ATTRIBUTE, an app or a factory, for example shop:create_app.",
        "MODULE:ATTRIBUTE",
        fallbacks=("FLASK_APP",),
    ),
    Option("import", "imports", _texts, (), "A module that defines further signal models.", "MODULE", many=True),
    Option("signals", "signals", _texts, (), "Relay only this signal model. May be given again.", "NAME", many=True),
    Option(
        "table",
        "table_names",
        _checked(of_tables.table_names),
        (),
        "An outbox table to relay without an application, perhaps with its schema. May be given again.",
        "TABLE",
        many=True,
    ),
    Option(
        "tables",
        "tables_file",
        _checked(of_tables.tables_file),
        (),
        "A file about such tables, in TOML, or in JSON if its name ends in .json.",
        "FILE",
    ),
    Option(
        "map",
        "assignments",
        _checked(of_tables.assignments),
        (),
        "The field that a column of such tables is, for example payload=body. May be given again.",
        "[TABLE.]COLUMN=FIELD",
        many=True,
    ),
    Option("preset", "preset", _choice(*PRESETS), None, f"A layout of such tables: {', '.join(PRESETS)}.", "NAME"),
    Option(
        "exchange",
        "exchange",
        _checked(of_tables.any_text),
        None,
        "The exchange of such rows that name none.",
        "NAME",
    ),
    Option(
        "routing-key",
        "routing_key",
        _checked(of_tables.any_text),
        None,
        "The routing key of such rows that name none.",
        "KEY",
    ),
    Option(
        "where",
        "where",
        _checked(condition),
        None,
        "Which rows of such tables are to be sent, as a condition of SQL, for example status = 'NEW'.",
        "CONDITION",
    ),
    Option(
        "not-before",
        "not_before",
        _checked(of_tables.columns),
        (),
        "A column of such tables with a time before which a row is not to be sent. May be given again.",
        "COLUMN",
        many=True,
    ),
    Option(
        "all-rows",
        "all_rows",
        _flag,
        False,
        "Every row of such tables is to be sent, whatever its columns say.",
        is_flag=True,
    ),
    Option(
        "database-url",
        "database_url",
        _checked(of_tables.database_url),
        None,
        "The database of such tables.",
        "URL",
        is_secret=True,
        fallbacks=("DATABASE_URL",),
    ),
    Option(
        "amqp-url",
        "amqp_url",
        _text,
        None,
        "The broker, instead of the application's SIGNALBUS_RABBITMQ_URL.",
        "URL",
        is_secret=True,
    ),
    Option("workers", "workers", _count(1, 64), 2, "Threads that send bursts.", "N"),
    Option(
        "poll-interval",
        "poll_interval_seconds",
        _seconds(0.05, 3600),
        1.0,
        "The longest pause between two looks for signals.",
        "SECONDS",
    ),
    Option(
        "doorbell",
        "doorbell",
        _choice("auto", "off"),
        "auto",
        "auto: be woken by the doorbells of the tables that have one; off: poll only.",
        "auto|off",
    ),
    Option(
        "statement-timeout",
        "statement_timeout_seconds",
        _seconds(0.1, 3600),
        30.0,
        "The longest that one statement of a burst may run.",
        "SECONDS",
    ),
    Option(
        "lock-timeout",
        "lock_timeout_seconds",
        _seconds(0.01, 3600),
        5.0,
        "The longest that a burst waits for a lock, for example behind an ALTER TABLE.",
        "SECONDS",
    ),
    Option(
        "idle-timeout",
        "idle_timeout_seconds",
        _seconds(0.1, 86400),
        120.0,
        "The longest that a burst's transaction waits for the send method; then PostgreSQL ends it.",
        "SECONDS",
    ),
    Option(
        "park-after",
        "park_after",
        _count(1, 1000),
        PARK_AFTER,
        "A signal that fails so often for its own sake is parked: it waits for a person.",
        "ATTEMPTS",
    ),
    Option(
        "drain-timeout",
        "drain_timeout_seconds",
        _seconds(0, 3600),
        30.0,
        "How long bursts in flight may take to end when the relay is stopped.",
        "SECONDS",
    ),
    Option(
        "stall-after",
        "stall_after_seconds",
        _seconds(1, 86400),
        180.0,
        "A thread without progress for so long makes /livez fail.",
        "SECONDS",
    ),
    Option(
        "http",
        "http",
        _http,
        HttpAddress("127.0.0.1", 9109),
        "Where health and metrics are served; port 0 takes a free one, off serves nothing.",
        "HOST:PORT",
    ),
    Option(
        "http-hosts",
        "http_hosts",
        _texts,
        (),
        "A name under which the HTTP server is asked, beside localhost and addresses. May be given again.",
        "NAME",
        many=True,
    ),
    Option(
        "operator-token",
        "operator_token",
        _token,
        None,
        "Whoever knows it may retry, discard, pause and resume over HTTP; without it nobody may.",
        "TOKEN",
        is_secret=True,
    ),
    Option(
        "discard-record",
        "discard_record",
        _text,
        None,
        "Signals discarded over HTTP are added to this file; without it they can only be discarded by the command.",
        "FILE",
    ),
    Option("log-format", "log_format", _choice("text", "json"), "text", "text or json.", "FORMAT"),
    Option(
        "log-level",
        "log_level",
        _choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "DEBUG, INFO, WARNING or ERROR.",
        "LEVEL",
    ),
    Option(
        "until-empty",
        "until_empty",
        _flag,
        False,
        "Send what is pending, then end: 0 when nothing is left, 1 when something could not be sent.",
        is_flag=True,
    ),
)


def resolve(
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    app_config: Mapping[str, Any] | None = None,
    read_file: Callable[[str], str] = lambda path: Path(path).read_text(),
    broker_variables: Sequence[str] | None = None,
) -> RelayConfig:
    """Find the value of each option, and check all of them.

    :param given: from the command line, by field; None and () for what was not given.
    :param app_config: the application's configuration, once it is loaded.
    :param broker_variables: where the environment may name a broker for tables without an application; None when no
      broker is needed.
    :raises ConfigError: with all problems.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    for option in OPTIONS:
        try:
            source, raw = _find(option, given, environ, app_config or {}, read_file)
        except OSError as error:
            problems.append(f"{option.variable}_FILE: the file cannot be read ({error.strerror}).")
            continue
        if source is None:
            values[option.field] = option.default
            continue
        sources[option.field] = source
        try:
            values[option.field] = option.parse(raw)
        except _Invalid as invalid:
            shown = "" if option.is_secret or option.field in TELLING else f", not {raw!r}"
            problems.append(f"{source}: {invalid}{shown}.")
    problems += subject_problems(values, sources, {name for option in OPTIONS for name in option.fallbacks})
    if broker_variables is not None and "app" in values and not values["app"] and values.get("amqp_url", "") is None:
        values["amqp_url"] = next((environ[name] for name in broker_variables if environ.get(name)), None)
        if values["amqp_url"] is None:
            problems.append("--amqp-url: which broker? Give a URL that begins with amqp:// or amqps://.")
    if problems:
        raise ConfigError(problems)
    return RelayConfig(**{field.name: values[field.name] for field in fields(RelayConfig)})


def _find(
    option: Option,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    app_config: Mapping[str, Any],
    read_file: Callable[[str], str],
) -> tuple[str | None, Any]:
    """The value of an option as it was given, and where it was."""
    value = given.get(option.field)
    if value is not None and value != () and value is not False:
        return f"--{option.name}", value
    if environ.get(option.variable):
        return option.variable, environ[option.variable]
    if option.is_secret and (path := environ.get(f"{option.variable}_FILE")):
        return f"{option.variable}_FILE", read_file(path).strip()
    if app_config.get(option.variable) is not None:
        return f"{option.variable} (of the application)", app_config[option.variable]
    for name in option.fallbacks:
        if environ.get(name):
            return name, environ[name]
    return None, None
