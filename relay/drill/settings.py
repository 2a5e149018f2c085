"""The settings of a drill, all problems reported together, and its errors.

::

    Exception
    ├── DrillUsageError      it could not begin
    ├── DrillFailedError     it began, and could not be carried through
    └── DrillInterrupted     it was asked to stop
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from signalbus_core import SetupError
from signalbus_core.rabbitmq import BrokerLocation

from ..option_types import read_choice, read_count, read_seconds
from ..servers.database_url import with_driver


class DrillUsageError(Exception):
    """The drill cannot begin.

    :param problems: all problems, one line each, without passwords.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DrillFailedError(Exception):
    """The drill could not be completed; the text says which part failed."""


class DrillInterrupted(Exception):
    """The drill was asked to stop by a POSIX signal."""


#: The environment variables that are read, in this order, when an option is not given.
FALLBACKS = {"database_url": ("DATABASE_URL",), "amqp_url": ("AMQP_URL", "RABBITMQ_URL")}

QUEUE_TYPES = ("classic", "quorum")

#: The default of ``--idle-timeout``, and the least that relays accept where signals have an order, in heartbeats.
IDLE_TIMEOUT_SECONDS, HEARTBEATS_OF_IDLE_TIMEOUT = 120.0, 4

DRIVERS = ("psycopg2", "psycopg")


@dataclass(frozen=True)
class DrillSettings:
    """The settings of a drill.

    :param database_url: of the database in which the drill creates its table.
    :param amqp_url: of the virtual host in which it creates its exchange and its queue; of several nodes, with commas.
    :param signals: how many signals are committed, not counting those that are rolled back.
    :param seconds: how long signals are written and faults injected.
    :param relays: the number of relay processes.
    :param seed: determines the faults and their times.
    :param with_inbox: whether consumers with an inbox are killed too, and their effects counted.
    """

    database_url: URL
    amqp_url: str
    signals: int
    seconds: float
    relays: int
    seed: int
    queue_type: str
    as_json: bool
    with_inbox: bool = False


def resolve(given: Mapping[str, Any], environ: Mapping[str, str]) -> DrillSettings:
    """Check the options.

    :param given: the options by name; texts, or None when not given.
    :raises DrillUsageError: with all problems.
    """
    problems: list[str] = []

    def read(name: str, parse: Callable[[str], Any], default: str | None = None) -> Any:
        value = given.get(name)
        source = f"--{name.replace('_', '-')}"
        for variable in FALLBACKS.get(name, ()):
            if value is None and environ.get(variable):
                value, source = environ[variable], variable
        try:
            return parse(value if value is not None else default or "")
        except ValueError as problem:
            # A URL may hold a password.
            problems.append(f"{source}: {problem}." if name in FALLBACKS else f"{source}: {problem}, not {value!r}.")
            return None

    settings = DrillSettings(
        database_url=read("database_url", _database_url),
        amqp_url=read("amqp_url", _amqp_url),
        signals=read("signals", read_count(1, 10_000_000), "5000"),
        seconds=read("seconds", read_seconds(1, 86_400), "30"),
        relays=read("relays", read_count(1, 32), "2"),
        seed=read("seed", read_count(0, 2**63), str(secrets.randbelow(1_000_000))),
        queue_type=read("queue_type", read_choice(*QUEUE_TYPES), QUEUE_TYPES[0]),
        as_json=bool(given.get("as_json")),
        with_inbox=bool(given.get("with_inbox")),
    )
    if problems:
        raise DrillUsageError(problems)
    return settings


def _database_url(text: str) -> URL:
    if not text:
        raise ValueError("which database? Give postgresql://user:password@host/database, or set DATABASE_URL")
    try:
        url = make_url(with_driver(text))
    except (ArgumentError, ValueError):
        # The text of the error may hold the URL, and with it the password.
        raise ValueError("this is no URL like postgresql://user:password@host:5432/database") from None
    name, _, driver = url.drivername.partition("+")
    if name != "postgresql" or driver not in DRIVERS:
        raise ValueError("a database URL begins with postgresql:// or postgresql+psycopg2://")
    return url


def _amqp_url(text: str) -> str:
    if not text:
        raise ValueError("which broker? Give amqp://user:password@host/vhost, or set AMQP_URL")
    try:
        BrokerLocation(text)
    except SetupError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{reason[0].lower()}{reason[1:]}") from None
    return text


def heartbeats(amqp_url: str) -> list[float]:
    """The heartbeat of each node of the broker, in seconds; 0 where the URL turns it off."""
    return [float(node.parameters(1.0).heartbeat) for node in BrokerLocation(amqp_url).nodes]


def idle_timeout(heartbeat_seconds: float) -> float:
    """The idle timeout of the relays: that of a relay by default, or more where a longer heartbeat asks for it."""
    return max(IDLE_TIMEOUT_SECONDS, HEARTBEATS_OF_IDLE_TIMEOUT * heartbeat_seconds)
