"""Writes signals of each kind, and tells what their arrival has to be compared with."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from .tables import ACCOUNT, KEYED, SCHEDULED, SEND_AFTER

#: So many keys. Fewer: longer runs of each, and more often two writers want the same key.
KEYS = 20

#: The largest number of keys in one transaction.
MOST_KEYS = 3

#: A scheduled signal is due at most so many seconds after it was written.
LONGEST_DELAY_SECONDS = 2.0


@dataclass(frozen=True)
class Written:
    """What is known of signals that were written, and are not committed yet.

    :param places: the key of each keyed signal, and its place among all.
    :param due: between which two moments of this machine's clock each scheduled signal is due.
    """

    places: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    due: Mapping[int, tuple[float, float]] = field(default_factory=dict)


#: Writes signals with these numbers in the open transaction of a connection.
Traffic = Callable[[Connection, Sequence[int], random.Random], Written]


def traffic_of(table: sa.Table, places: Iterator[int]) -> Traffic:
    """How the signals of a table are written.

    :param places: gives the places of keyed signals. Whoever has written a key holds its lock until the commit, so that
      places that are drawn after the insert are in the order of the commits.
    """
    if table.name.endswith(KEYED):
        return lambda connection, numbers, chance: _keyed(connection, table, numbers, chance, places)
    if table.name.endswith(SCHEDULED):
        return lambda connection, numbers, chance: _scheduled(connection, table, numbers, chance)
    return lambda connection, numbers, _chance: _plain(connection, table, numbers)


def _plain(connection: Connection, table: sa.Table, numbers: Sequence[int]) -> Written:
    connection.execute(sa.insert(table), [{"number": number} for number in numbers])
    return Written()


def _keyed(
    connection: Connection, table: sa.Table, numbers: Sequence[int], chance: random.Random, places: Iterator[int]
) -> Written:
    # In the order of the keys, so that two writers hardly ever deadlock.
    some = chance.sample(range(KEYS), chance.randint(1, MOST_KEYS))
    keys = sorted(chance.choice(some) for _ in numbers)
    rows: list[dict[str, Any]] = [{"number": number, ACCOUNT: key} for number, key in zip(numbers, keys, strict=True)]
    connection.execute(sa.insert(table), rows)
    return Written(places={row["number"]: (row[ACCOUNT], next(places)) for row in rows})


def _scheduled(connection: Connection, table: sa.Table, numbers: Sequence[int], chance: random.Random) -> Written:
    delays = [chance.uniform(0, LONGEST_DELAY_SECONDS) for _ in numbers]
    name = connection.dialect.identifier_preparer.format_table(table)
    insert = sa.text(
        f"INSERT INTO {name} (number, {SEND_AFTER}) SELECT n, statement_timestamp() + d * interval '1 s' "
        "FROM unnest(CAST(:numbers AS bigint[]), CAST(:delays AS float8[])) AS written (n, d)"
    )
    before = time.time()
    connection.execute(insert, {"numbers": list(numbers), "delays": delays})
    after = time.time()
    return Written(due={n: (before + delay, after + delay) for n, delay in zip(numbers, delays, strict=True)})
