"""Versions that get no more fixes, by the rules of their projects. Pure: the day is passed in.

- https://www.postgresql.org/support/versioning/: a major version a year, 14 in 2021, has fixes for five years, the last
  ones on the second Thursday of November.
- https://devguide.python.org/versions/: a version a year, 3.10 in 2021, has fixes for five years, until October.
- https://www.rabbitmq.com/release-information covers the newest series, and older ones with a licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from .finding import Finding, found

#: The oldest PostgreSQL that Signalbus is written for.
OLDEST_POSTGRESQL = 14

#: The versions of servers and Pythons that tests were run with.
TESTED_POSTGRESQL = range(14, 19)
TESTED_PYTHON = range(10, 15)

#: Older ones get no fixes, with or without a licence.
OLDEST_RABBITMQ = (3, 13)

#: Each library, from the first version to the second, exclusive.
LIBRARIES = {"SQLAlchemy": ((2, 0, 30), (2, 2)), "pika": ((1, 4), (1, 5))}


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``2.1.0b1`` is 2, 1."""
    parts: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)


def dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def postgresql_end(major: int) -> date:
    """The day of the last fixes of a major version."""
    november = date(major + 2012, 11, 1)
    first_thursday = 1 + (3 - november.weekday()) % 7
    return november.replace(day=first_thursday + 7)


def python_end(minor: int) -> date:
    """The last day of the month of the last fixes of Python 3.x."""
    return date(minor + 2016, 10, 31)


def check_python(version: tuple[int, int], today: date) -> Iterator[Finding]:
    major, minor = version
    ends = python_end(minor)
    if major == 3 and today > ends:
        subject = f"Python {dotted(version)}"
        yield found("python-out-of-support", subject, f"its support ended on {ends}", "Use a newer Python.")


def check_library(name: str, version: str) -> Iterator[Finding]:
    first, end = LIBRARIES[name]
    if not first <= numbers(version) < end:
        remedy = f"Install {name}>={dotted(first)},<{dotted(end)}."
        yield found("library-unsupported", f"{name} {version}", "Signalbus is not tested with it", remedy)


def check_postgresql(version_number: int, today: date) -> Iterator[Finding]:
    """:param version_number: as the server states it, 150018 for 15.18."""
    major = version_number // 10_000
    subject = f"PostgreSQL {major}"
    if major < OLDEST_POSTGRESQL:
        problem = f"Signalbus needs PostgreSQL {OLDEST_POSTGRESQL} or newer"
        yield found("postgresql-too-old", subject, problem, "Upgrade the database server.")
    elif today > (ends := postgresql_end(major)):
        problem = f"its support ended on {ends}"
        yield found("postgresql-out-of-support", subject, problem, "Upgrade the database server.")


def check_rabbitmq(version: str) -> Iterator[Finding]:
    if numbers(version) and numbers(version) < OLDEST_RABBITMQ:
        problem = "it gets no more fixes from its makers"
        yield found("rabbitmq-out-of-support", f"RabbitMQ {version}", problem, "Upgrade the broker.")
