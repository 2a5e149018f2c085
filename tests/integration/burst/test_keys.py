"""Keys of every type, of one column and of several: one shape of statement, by the index, whatever their number."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from signalbus_core import SignalBus, SignalBusMixin
from signalbus_core.burst.size import MOST_BYTES
from signalbus_core.lowlevel import BurstResult, Choice, LeaveOut, parked, retries, send_burst
from signalbus_core.sql.delete_rows import delete_signals
from signalbus_core.sql.lock_rows import lock_rows
from signalbus_core.sql.parked import Failure
from signalbus_core.sql.rows import find_keys
from signalbus_core.sql.transaction import settings_option
from tests.support.servers import Postgres

#: A table that is large enough for PostgreSQL to prefer reading it as a whole, where it may.
MANY = 50_000


class Colour(enum.Enum):
    red = 1
    green = 2
    blue = 3


class Guid(sa.TypeDecorator[str]):
    """The type that SQLAlchemy's documentation suggests for any database: made of ``char``, and a UUID here."""

    impl = sa.CHAR
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(postgresql.UUID(as_uuid=False) if postgres else sa.CHAR(36))


class Shouted(sa.TypeDecorator[str]):
    """Python sees upper case, the table has lower case."""

    impl = sa.String(3)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return value.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value.upper()


class Database(SignalBusMixin, SQLAlchemy):
    pass


IDS = [uuid.UUID(int=number) for number in (1, 2, 3)]
DAYS = [date(2026, 1, day) for day in (1, 2, 3)]

#: Of each type, the type of the column and three keys in their order.
KINDS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "small": (sa.SmallInteger, [-1, 0, 1]),
    "large": (sa.BigInteger, [-(2**63), 0, 2**63 - 1]),
    "text": (sa.Text, ["", 'a"\\,{}', "it's"]),
    "short": (lambda: sa.String(2), ["a", "bb", "c "]),
    "padded": (lambda: sa.CHAR(4), ["a   ", "b   ", "c   "]),
    "collated": (lambda: sa.String(collation="C"), ["A", "a", "b"]),
    "citext": (postgresql.CITEXT, ["a", "B", "c"]),
    "uuid": (sa.Uuid, IDS),
    "uuid as text": (lambda: sa.Uuid(as_uuid=False), list(map(str, IDS))),
    "uuid in text": (lambda: sa.Uuid(native_uuid=False), IDS),
    "guid": (Guid, list(map(str, IDS))),
    "variant": (lambda: sa.String(36).with_variant(postgresql.UUID(as_uuid=False), "postgresql"), list(map(str, IDS))),
    "shouted": (Shouted, ["A", "B", "C"]),
    "date": (sa.Date, DAYS),
    "moment": (sa.DateTime, [datetime.combine(day, time(1, 2, 3, 456789)) for day in DAYS]),
    "moment with zone": (
        lambda: sa.DateTime(timezone=True),
        [datetime(2026, 1, 1, 1, 2, 3, 456789 + n, tzinfo=timezone.utc) for n in range(3)],
    ),
    "time": (sa.Time, [time(1, 2, 3, 456789 + n) for n in range(3)]),
    "interval": (sa.Interval, [timedelta(seconds=1, microseconds=n) for n in range(3)]),
    "bytes": (sa.LargeBinary, [b"", b"\\x00", b"\xff\x00"]),
    "enum": (lambda: sa.Enum(Colour, name="Colour"), list(Colour)),
    "enum elsewhere": (lambda: sa.Enum(Colour, name="colour", schema="else.where"), list(Colour)),
    "enum as text": (lambda: sa.Enum(Colour, native_enum=False), [Colour.blue, Colour.green, Colour.red]),
    "domain": (lambda: postgresql.DOMAIN("Positive", sa.BigInteger(), check="VALUE > 0"), [1, 2, 2**40]),
    "domain elsewhere": (
        lambda: postgresql.DOMAIN("code", sa.Text(), check="VALUE <> ''", schema="else.where"),
        ["a", "b,c", "d"],
    ),
    "numeric": (sa.Numeric, [Decimal(1), Decimal("2.50"), Decimal(10**30)]),
    "boolean": (sa.Boolean, [False, True]),
    "double": (sa.Double, [0.1, 0.2, 1e300]),
    "inet": (postgresql.INET, ["10.0.0.1", "10.0.0.2", "::1"]),
    "cidr": (postgresql.CIDR, ["10.0.0.0/8", "11.0.0.0/8", "::/0"]),
    "macaddr": (postgresql.MACADDR, [f"08:00:2b:01:02:0{n}" for n in range(3)]),
}

SHAPES = {
    "alone": lambda kind: [("key", kind)],
    "of three": lambda kind: [("other", sa.Integer()), ("another", sa.Text()), ("key", kind)],
}
OTHERS = {"other": 7, "another": "x"}


class Outbox:
    """An application with one signal model, whose key has these columns."""

    def __init__(self, database_url: str, columns: Sequence[tuple[str, Any]]) -> None:
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.app, self.db = app, Database(app)
        self.sent: list[Any] = []
        members: dict[str, Any] = {
            name: self.db.Column(kind, primary_key=True, autoincrement=False) for name, kind in columns
        }
        members |= {
            "send_signalbus_message": lambda signal: self.sent.append(sa.inspect(signal).identity),
            "signalbus_burst_count": MANY,
            "__tablename__": "orders",
        }
        self.model: Any = type("Order", (self.db.Model,), members)
        self.names = [name for name, _ in columns]
        with app.app_context():
            [self.spec] = SignalBus(self.db).specs()
            self.engine = self.db.engine
        self.execute('DROP SCHEMA IF EXISTS public, "else.where" CASCADE', 'CREATE SCHEMA "else.where"')
        self.execute("CREATE SCHEMA public", "CREATE EXTENSION citext")
        with app.app_context():
            self.db.create_all()
        self.statements: list[tuple[str, Any]] = []
        # Listens first, so that what is said before a statement is noted with it.
        settings_option(self.engine, ())
        sa.event.listen(self.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self.statements.append((statement, parameters))

    def execute(self, *texts: str) -> None:
        with self.engine.begin() as connection:
            for text in texts:
                connection.execute(sa.text(text))

    def write(self, *keys: Any) -> list[Any]:
        """Write signals with these values; return their keys."""
        with self.app.app_context():
            self.db.session.add_all(
                [self.model(**{name: OTHERS.get(name, key) for name in self.names}) for key in keys]
            )
            self.db.session.commit()
        return [tuple(OTHERS.get(name, key) for name in self.names) for key in keys]

    def fill(self) -> None:
        """Write many signals, for keys of integers."""
        columns = ", ".join("n / 7" if number else "n" for number in range(len(self.names)))
        self.execute(f"INSERT INTO orders SELECT {columns} FROM generate_series(1, {MANY}) n", "ANALYZE orders")

    def burst(self, **arguments: Any) -> BurstResult:
        with self.app.app_context():
            return send_burst(self.db.session(), self.spec, **arguments)

    def plan(self, settings: Sequence[str], statement: str, parameters: Any) -> list[dict[str, Any]]:
        """The nodes of the plan of a statement."""
        with self.engine.connect() as connection:
            for setting in settings:
                connection.exec_driver_sql(setting)
            answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
        return list(_nodes((answer if isinstance(answer, list) else json.loads(answer))[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


@pytest.fixture(scope="module")
def module_url(postgres: Postgres) -> str:
    return postgres.create_database()


@pytest.fixture
def make(module_url: str) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def make(columns: Sequence[tuple[str, Any]]) -> Outbox:
        made.append(Outbox(module_url, columns))
        return made[-1]

    yield make
    for outbox in made:
        outbox.engine.dispose()


# SQLAlchemy 2.1 says so of its own DOMAIN.
@pytest.mark.filterwarnings("ignore:Type object .*DOMAIN:sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_signals_are_chosen_noted_and_deleted_whatever_keys(make: Callable[..., Outbox], kind: str, shape: str) -> None:
    type_of, values = KINDS[kind]
    outbox = make(SHAPES[shape](type_of()))
    first, second, *more = outbox.write(*values)
    assert outbox.burst(choice=Choice(exclude=(first, *more)), rehearse=True).keys == (second,)
    if more:
        assert outbox.burst(choice=Choice(only=tuple(more))).keys == tuple(more)
    with outbox.engine.begin() as connection:
        noted = parked.failure_histories(connection, outbox.spec, [first, second])
        assert list(noted) == [first]
        parked.record_failures(connection, outbox.spec, [Failure(first, 1, 0.0, "error", "bad")], noted)
    assert outbox.burst(choice=Choice(LeaveOut.FAILED)).selected == 0
    with outbox.engine.begin() as connection:
        due = retries.due_signals(connection, outbox.spec, 10)[0].key
        assert len(find_keys(connection, outbox.spec, [due, second])) == 1
        assert parked.forget_gone(connection, outbox.spec) == 0
    assert outbox.burst(choice=Choice(only=(due,), forgets=True)).keys == (first,)
    with outbox.engine.begin() as connection:
        assert parked.count_failed(connection, outbox.spec) == (0, 0)
        assert len(find_keys(connection, outbox.spec, [first, second, *more])) == 0
    assert sorted(map(repr, outbox.sent)) == sorted(map(repr, (first, second, *more)))


COLUMNS = {1: ["a"], 2: ["a", "b"], 3: ["a", "b", "c"]}


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("settings", [[], ["SET LOCAL enable_sort = off", "SET LOCAL enable_bitmapscan = off"]])
def test_a_large_burst_is_deleted_by_its_index_whatever_the_key(
    make: Callable[..., Outbox], columns: int, settings: list[str]
) -> None:
    outbox = make([(name, sa.Integer()) for name in COLUMNS[columns]])
    outbox.fill()
    shapes = set()
    for number in (1, 500, 5000):
        outbox.statements.clear()
        assert outbox.burst(limit=number).sent == number
        [(text, parameters)] = [one for one in outbox.statements if "DELETE FROM" in one[0]]
        *said, statement = text.split("; ")
        shapes.add((statement, len(parameters)))
        plan = outbox.plan([*settings, *said], statement, parameters)
        [scan] = [node for node in plan if node.get("Relation Name") == "orders" and "Scan" in node["Node Type"]]
        # A key that is one integer is looked up; rows with other keys are found by their places.
        assert scan["Node Type"] == ("Index Scan" if columns == 1 else "Tid Scan"), plan
    assert len(shapes) == 1, "the statement grows with the number of keys"
    assert len(outbox.sent) == len(set(outbox.sent)) == 5501


@pytest.mark.parametrize("columns", COLUMNS)
def test_a_statement_about_keys_has_as_many_parameters_as_they_have_columns(
    make: Callable[..., Outbox], columns: int
) -> None:
    outbox = make([(name, sa.Integer()) for name in COLUMNS[columns]])
    for number in (2, 2000):
        keys = [(n,) * columns for n in range(number)]
        outbox.statements.clear()
        with outbox.engine.begin() as connection, Session(connection) as session:
            lock_rows(session, outbox.spec, 10, Choice(exclude=tuple(keys)), MOST_BYTES)
            lock_rows(session, outbox.spec, 10, Choice(only=tuple(keys)), MOST_BYTES)
            delete_signals(connection, outbox.spec, keys)
            parked.failure_histories(connection, outbox.spec, keys)
            parked.forget(connection, outbox.spec, keys)
        asked = [parameters for text, parameters in outbox.statements if "unnest" in text]
        lists = [[one for one in parameters.values() if len(str(one)) > 2 * number] for parameters in asked]
        assert [len(one) for one in lists if number > 2] == ([columns] * 5 if number > 2 else [])


@pytest.mark.parametrize("columns", [2, 3])
def test_flushmany_sends_keys_of_several_columns_in_whole_bursts(make: Callable[..., Outbox], columns: int) -> None:
    outbox = make([(name, sa.Integer()) for name in COLUMNS[columns]])
    outbox.model.signalbus_burst_count = 5000
    outbox.fill()
    outbox.execute("DELETE FROM orders WHERE a > 10000")
    outbox.statements.clear()
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 10_000
    deletes = [text for text, _ in outbox.statements if "DELETE FROM orders" in text]
    assert len(deletes) <= 4, "bursts of thousands, and the rehearsal of the first"
    assert len(set(deletes)) == 1


def test_row_whose_key_is_no_whole_number_is_deleted_alone(make: Callable[..., Outbox]) -> None:
    outbox = make([("a", sa.Integer())])
    outbox.execute("ALTER TABLE orders ALTER a TYPE numeric", "INSERT INTO orders VALUES (2), (3), (4.0)")
    assert outbox.burst(limit=3).sent == 3
    outbox.execute("INSERT INTO orders VALUES (2.5), (3)")
    assert outbox.burst(limit=1, rehearse=True).sent == 1
    with outbox.engine.connect() as connection:
        assert list(connection.execute(sa.text("SELECT a FROM orders ORDER BY a")).scalars()) == [3]


def test_a_key_with_null_in_it_hides_no_signal(make: Callable[..., Outbox]) -> None:
    outbox = make([("a", sa.Integer()), ("b", sa.Text())])
    outbox.execute("INSERT INTO orders VALUES (1, 'x')")
    assert outbox.burst(choice=Choice(exclude=((1, None),))).keys == ((1, "x"),)
