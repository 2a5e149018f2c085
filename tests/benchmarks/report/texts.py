"""The words around the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..figures import Figures
from .table import table

HEAD = """# Performance

For those who size a deployment, and for those who change the code that sends: what was measured, and what bounds it.
How many relays you need, in one table: [Sizing](explanation/sizing.md).

Written by `make bench`, from the figures in [performance.json](performance.json). `make bench QUICK=1` takes two
minutes and shows whether all of it works; `make bench ONLY=drain,idle` measures some sections anew and keeps the
others.

Servers are private, PostgreSQL with `fsync` on. Relays are the real command in processes of their own. Bodies have 200
bytes, bursts 1,000 signals, and a relay two workers, unless a table says otherwise. Producers, database, broker, relays
and consumers share the processors, so read ratios rather than rates."""


@dataclass(frozen=True)
class Chapter:
    """A part of the page: words, then the picture of its name, then tables."""

    name: str
    title: str
    text: str
    tables: tuple[Callable[[Figures], str], ...] = ()


def _of(section: str, **chosen: Any) -> Callable[[Figures], str]:
    return partial(_table, section=section, **chosen)


def _table(figures: Figures, section: str, **chosen: Any) -> str:
    return table(figures, section, **chosen)


CHAPTERS = (
    Chapter(
        "drain",
        "How fast a backlog goes out",
        "The ceiling is what the broker takes of frames that were encoded before, from a client that does nothing "
        "else, on as many connections as the relay has workers, with never more than a burst unanswered on each. "
        "It waits for no database. A drain begins with the commit of the signals and ends when the last is "
        "deleted. The ceiling has all processors for itself; the last table has what the broker takes of the same "
        "frames beside a process that does nothing but burn as much of them as relay and PostgreSQL took.",
        (
            _of("drain", without=("ceiling", "beside")),
            _of("drain", first="ceiling: "),
            _of("drain", first="beside a load: "),
        ),
    ),
    Chapter(
        "cpu",
        "Who spends the processor's time",
        "Of one signal of 200 bytes on its way, by processes. On a machine of few cores the sum of the three "
        "bounds the rate: two cores give two million microseconds a second.",
    ),
    Chapter(
        "ceilings",
        "Each half by itself",
        "The null sender is the relay with send methods that return at once: what database and bookkeeping allow. "
        "The null database is the publisher, fed from memory. `pgbench` takes and deletes the same rows in the "
        "same bursts, in SQL alone.",
        (_of("ceilings"),),
    ),
    Chapter(
        "profile",
        "Where the relay's time goes",
        "Bursts of 1,000, one after the other in one thread; processor time of that thread for one signal. What "
        "waits for database or broker takes none.",
        (_of("profile"),),
    ),
    Chapter(
        "counters",
        "What a burst asks for",
        "Counted by the database's own log and at the socket. These figures do not depend on the machine; the "
        "tests hold them.",
        (_of("counters"),),
    ),
    Chapter(
        "bodies",
        "Larger bodies",
        "A burst holds its messages in memory, and no more of them than about 16 MiB: where bodies are large, it has"
        " fewer signals.",
        (_of("bodies", without="ceiling"), _of("bodies", first="ceiling: ")),
    ),
    Chapter(
        "single",
        "Bursts of one",
        "What a model gets that says nothing of bursts: a transaction and a wait for the broker for each signal. "
        "More workers overlap the waits.",
        (_of("single"),),
    ),
    Chapter(
        "keys",
        "Keys of several columns",
        "An integer; with a text; with a date as well. Rows are deleted by their places, so that the number of "
        "columns hardly counts.",
        (_of("keys"),),
    ),
    Chapter(
        "history",
        "What was sent, kept",
        "The statement that deletes the signals of a burst moves them into the table of what was sent, with three "
        "indexes.",
        (_of("history"),),
    ),
    Chapter(
        "order",
        "Order by key",
        "The signals of a key are sent in the order of their commits, each when the one before it is confirmed. "
        "The keys take turns in the backlog. A burst of 1,000 has one signal each of 1,000 keys, or 1,000 of one "
        "key, one after the other.",
        (_of("order"),),
    ),
    Chapter(
        "latency",
        "From commit to consumer, and what a relay costs at your rate",
        "A writer with a pace of its own; from the answer of its commit to the arrival at a consumer, with "
        "doorbells, on a relay without options. The share of a core includes what the relay does while it waits.",
        (_of("latency"),),
    ),
    Chapter(
        "producers",
        "What the doorbell costs the producers",
        "16 clients of `pgbench`, each transaction writes one signal, while relays send what they write.",
        (_of("producers"),),
    ),
    Chapter(
        "idle",
        "What a relay costs that has nothing to do",
        "Statements a second as the server logs them, those of the notifier included.",
        (_of("idle"),),
    ),
    Chapter(
        "dead_rows",
        "Dead rows",
        "A table with so many deleted rows at its beginning that an old snapshot keeps from being cleaned.",
        (_of("dead_rows"),),
    ),
    Chapter(
        "backlog",
        "A long backlog",
        "The rate over a stretch of the backlog, from its first burst on.",
        (_of("backlog"),),
    ),
    Chapter(
        "scaling",
        "More of everything",
        "Processes have two workers each. The smallest share is, when half of all is sent, what the last of the "
        "models has sent, as a part of what they have sent on average. Beside a slow destination: the rate of a "
        "model whose destination is fast, while another waits a quarter of a second for each burst. Asleep: how "
        "many relays one signal wakes.",
        (
            _of("scaling", first="processes: "),
            _of("scaling", first="workers: "),
            _of("scaling", first="models: "),
            _of("scaling", first="destinations: "),
            _of("scaling", first="asleep: "),
        ),
    ),
)
