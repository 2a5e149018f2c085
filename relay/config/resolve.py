"""The value of each option: from the command line, else the environment, the application's configuration, its default.

Invariant: the result is frozen and checked once, and all problems are reported together. The environment is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from signalbus_core.lowlevel import BurstLimits

from ..application.outbox_tables.names import TableName
from ..application.outbox_tables.rules import Assignment, TableRules, combine
from .option import Option
from .options import OPTIONS
from .subject import TELLING, of_other_subjects, subject_problems
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
    metadata: str | None
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
    done: str | None
    keep_days: int | None
    database_url: str | None
    amqp_url: str | None
    workers: int
    poll_interval_seconds: float
    fresh_first: bool
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
            self.done,
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
    unread = of_other_subjects(given, environ)
    for option in OPTIONS:
        # What others have in the environment and in files may be wrong, and is not meant here.
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
