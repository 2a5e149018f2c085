"""The value of each option: from the command line, else the environment, the application's configuration, its default.

Invariant: the result is frozen and checked once, and all problems are reported together. The environment is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from signalbus_core.lowlevel import BurstLimits

from ..application.outbox_tables.names import TableName
from ..application.outbox_tables.rules import Assignment, TableRules, combine
from .options import OPTIONS, Option
from .values import HttpAddress, broker_url


class ConfigError(Exception):
    """The configuration cannot be used.

    :param problems: all problems, one sentence each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


#: What follows from listening for others without names of one's own, and what to do.
ANY_NAME_PROBLEM = (
    "the HTTP server accepts any host name: a foreign web page in a browser that reaches the relay can read status and "
    "failed signals through a name of its own (DNS rebinding); actions still need the operator's token"
)
ANY_NAME_REMEDY = "Give the relay's own names with --http-hosts."


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
    keep_days: int | None
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
    def accepts_any_name(self) -> bool:
        """Whether the HTTP server listens for others, and accepts any host name, because it was given none."""
        return self.http is not None and not self.http.is_loopback and not self.http_hosts

    @property
    def table_rules(self) -> list[TableRules]:
        """The tables to relay without an application, with their rules; empty when there is an application."""
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
            self.keep_days,
        )


def resolve(
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    app_config: Mapping[str, Any] | None = None,
    read_file: Callable[[str], str] = lambda path: Path(path).read_text(),
    broker_variables: Sequence[str] | None = None,
) -> RelayConfig:
    """Determine the value of each option, and check all of them.

    :param given: from the command line, by field; None or () when not given.
    :param app_config: the application's configuration, once it is loaded.
    :param broker_variables: environment variables with a broker for tables without an application; None when no broker
      is needed.
    :raises ConfigError: with all problems.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    problems: list[str] = []
    unread = _of_the_other_mode(given, environ)
    for option in OPTIONS:
        # What the other mode has in the environment and in files may be wrong, and is not meant for this one.
        places = ({}, {}) if option.field in unread else (environ, app_config or {})
        try:
            source, raw = _find(option, given, *places, read_file)
        except OSError as error:
            name = _shown_path(environ.get(f"{option.variable}_FILE", ""))
            problems.append(f"{option.variable}_FILE: the file{name} cannot be read ({error.strerror}).")
            continue
        except ValueError:
            problems.append(f"{option.variable}_FILE: the name of a file with a text in UTF-8 is expected.")
            continue
        if source is None:
            values[option.field] = option.default
            continue
        sources[option.field] = source
        try:
            values[option.field] = option.parse(raw)
        except ValueError as invalid:
            shown = "" if option.is_secret or option.field in TELLING else f", not {raw!r}"
            problems.append(f"{source}: {invalid}{shown}.")
    problems += subject_problems(values, sources, {name for option in OPTIONS for name in option.fallbacks})
    if broker_variables is not None and "app" in values and not values["app"] and values.get("amqp_url", "") is None:
        variable = next((name for name in broker_variables if environ.get(name)), None)
        try:
            values["amqp_url"] = None if variable is None else broker_url(environ[variable])
        except ValueError as invalid:
            problems.append(f"{variable}: {invalid}.")
        if variable is None:
            problems.append("--amqp-url: which broker? Give a URL that begins with amqp:// or amqps://.")
    if problems:
        raise ConfigError(problems)
    return RelayConfig(**{field.name: values[field.name] for field in fields(RelayConfig)})


def find_database_url(given: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """The database of a command that needs no application and no outbox table: as ``--database-url`` of the others.

    :raises ConfigError: there is none, or it cannot be used.
    """
    [option] = [option for option in OPTIONS if option.field == "database_url"]
    try:
        source, raw = _find(option, given, environ, {}, lambda path: Path(path).read_text())
        if source is None:
            raise ConfigError(["--database-url: which database? Give a URL that begins with postgresql://."])
        return str(option.parse(raw))
    except OSError as error:
        raise ConfigError([f"{option.variable}_FILE: the file cannot be read ({error.strerror})."]) from None
    except ValueError as invalid:
        raise ConfigError([f"{source}: {invalid}."]) from None


def _find(
    option: Option,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    app_config: Mapping[str, Any],
    read_file: Callable[[str], str],
) -> tuple[str | None, Any]:
    """The value of an option as it was given, and its source."""
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


def _shown_path(path: str) -> str:
    """The path, unless it might be the secret itself, which somebody gave in place of a file."""
    return f" {path}" if path.startswith(("/", "./", "../")) and Path(path).parent.is_dir() else ""


def _of_the_other_mode(given: Mapping[str, Any], environ: Mapping[str, str]) -> frozenset[str]:
    """The fields that only count when they are on the command line: those of tables, or those of an application.

    The command line decides between the two; where it does not, the environment does.
    """
    about_app, about_tables = frozenset(ABOUT_APP), frozenset(ABOUT_TABLES)
    if any(given.get(field) for field in NAMING):
        return about_app
    if given.get("app"):
        return about_tables
    variables = {option.field: option.variable for option in OPTIONS}
    if any(environ.get(variables[field]) for field in NAMING):
        # Both named in the environment is a contradiction, which is reported.
        return frozenset() if environ.get(variables["app"]) else about_app
    return about_tables


#: The fields of the configuration that are about an application.
ABOUT_APP = ("app", "imports")

#: The fields of the configuration that are about tables without an application.
ABOUT_TABLES = (
    "table_names",
    "tables_file",
    "assignments",
    "preset",
    "exchange",
    "routing_key",
    "where",
    "not_before",
    "all_rows",
    "keep_days",
    "database_url",
)

#: Those that name tables.
NAMING = frozenset({"table_names", "tables_file"})

#: Those whose problems already name the faulty parts, because there may be several.
TELLING = NAMING | {"assignments", "where", "not_before"}


def subject_problems(values: dict[str, Any], sources: Mapping[str, str], fallbacks: Collection[str]) -> list[str]:
    """Return which options contradict each other, and leave in ``values`` those that do not.

    :param values: of the options, by field; invalid ones are missing.
    :param sources: the source of each value; those that were not given are missing.
    :param fallbacks: sources that other programs read too, so that their values may not be meant for the relay.
    """
    meant = {field: source for field, source in sources.items() if source not in fallbacks}
    if not NAMING & {*sources}:
        values["database_url"] = None
        problems = [
            f"{meant[field]}: it is about tables that --table names, and there is none."
            for field in ABOUT_TABLES
            if field in meant
        ]
        if "app" not in sources:
            problems.append(
                "--app: which application? Give MODULE:ATTRIBUTE, for example --app shop:create_app. Without an "
                "application, name tables: --table orders_outbox."
            )
        return problems
    naming = next(sources[field] for field in ABOUT_TABLES if field in sources)
    problems = [
        f"{meant[field]}: with {naming} there is no application. Give the one or the other."
        for field in ABOUT_APP
        if field in meant
    ]
    values["app"] = ""
    if "database_url" in values and "database_url" not in sources:
        problems.append("--database-url: which database? Give a URL that begins with postgresql://.")
    if values.get("where") is not None and values.get("all_rows"):
        problems.append(
            f"{sources['where']}: {sources['all_rows']} says that all rows are meant. Give the one or the other."
        )
    everywhere = TableRules(TableName(None, ""), {})
    given = (values.get("table_names") or (), values.get("tables_file") or (), values.get("assignments") or ())
    return problems + combine(*given, everywhere)[1]
