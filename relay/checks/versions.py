"""Versions that get no more fixes, by the dates that the projects state, as of 2026. Pure: the day is passed in.

- https://www.postgresql.org/support/versioning/ names the day of the last release.
- https://devguide.python.org/versions/ names the month of the last release; its last day is taken.
- https://www.rabbitmq.com/release-information covers the newest series, and older ones with a licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from .finding import Finding, found

#: The oldest PostgreSQL that Signalbus is written for.
OLDEST_POSTGRESQL = 14

POSTGRESQL_ENDS = {
    14: date(2026, 11, 12),
    15: date(2027, 11, 11),
    16: date(2028, 11, 9),
    17: date(2029, 11, 8),
    18: date(2030, 11, 14),
}
PYTHON_ENDS = {
    (3, 10): date(2026, 10, 31),
    (3, 11): date(2027, 10, 31),
    (3, 12): date(2028, 10, 31),
    (3, 13): date(2029, 10, 31),
    (3, 14): date(2030, 10, 31),
}
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


def check_python(version: tuple[int, int], today: date) -> Iterator[Finding]:
    ends = PYTHON_ENDS.get(version)
    if ends is not None and today > ends:
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
    ends = POSTGRESQL_ENDS.get(major)
    if major < OLDEST_POSTGRESQL:
        problem = f"Signalbus needs PostgreSQL {OLDEST_POSTGRESQL} or newer"
        yield found("postgresql-too-old", subject, problem, "Upgrade the database server.")
    elif ends is not None and today > ends:
        problem = f"its support ended on {ends}"
        yield found("postgresql-out-of-support", subject, problem, "Upgrade the database server.")


def check_rabbitmq(version: str) -> Iterator[Finding]:
    if numbers(version) and numbers(version) < OLDEST_RABBITMQ:
        problem = "it gets no more fixes from its makers"
        yield found("rabbitmq-out-of-support", f"RabbitMQ {version}", problem, "Upgrade the broker.")
