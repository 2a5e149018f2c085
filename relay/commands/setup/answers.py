"""The three answers from which a new application is written, checked before the first file is.

Invariant: what passes is a name and nothing but a name wherever a template puts it: in Python, SQL, YAML, or AMQP.
"""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder

#: Names that the written module uses itself.
TAKEN = {"Database", "Flask", "SQLAlchemy", "SignalBusMixin", "AtomicProceduresMixin", "Message", "RabbitMQSignal"}

LONGEST_TABLE = 63  # bytes of a name in PostgreSQL
LONGEST_EXCHANGE = 255  # bytes of a name in AMQP


@dataclass(frozen=True)
class Answers:
    """The names of a new application."""

    module: str
    signal: str
    exchange: str

    @property
    def table(self) -> str:
        return table_of(self.signal)

    @property
    def routing_key(self) -> str:
        return self.table.replace("_", ".")


def table_of(signal: str) -> str:
    """The table of a class, as Flask-SQLAlchemy names it: OrderPlaced -> order_placed."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", signal).lower()


def checked_module(name: str) -> str:
    """The module that is written; it must not hide another one."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST_TABLE or keyword.iskeyword(name):
        raise ValueError("a module is named like web_shop, in lower-case letters, and not like a word of Python")
    if name in sys.stdlib_module_names or name == "migrations" or _is_installed(name):
        raise ValueError(f"a module {name} is there already, and the new one would hide it")
    return name


def checked_signal(name: str) -> str:
    """The class of the signal; its table and its routing key are named after it."""
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name) or keyword.iskeyword(name):
        raise ValueError("a class is named like OrderPlaced: letters and digits, the first one a capital")
    if name in TAKEN:
        raise ValueError(f"{name} is the name of something else that the module uses")
    table = table_of(name)
    if len(table) > LONGEST_TABLE:
        raise ValueError(f"its table {table} would have more than {LONGEST_TABLE} letters")
    if table.startswith(("signalbus_", "pg_", "alembic_")):
        raise ValueError(f"tables like {table} belong to others")
    return name


def checked_exchange(name: str) -> str:
    """The exchange, which the written application declares."""
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name) or len(name) > LONGEST_EXCHANGE:
        raise ValueError("an exchange's name has letters, digits and _.:- only, and at most 255 of them")
    if name.startswith("amq."):
        raise ValueError("exchanges that begin with amq. belong to the broker")
    return name


def _is_installed(name: str) -> bool:
    """Whether a package of the environment has the name."""
    path = [entry for entry in sys.path if entry not in ("", ".")]
    return PathFinder.find_spec(name, path) is not None
