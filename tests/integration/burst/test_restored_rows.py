"""What was sent is restored exactly, whatever the types of its columns, as the bytes of its row show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from signalbus_core.lowlevel import PLAIN, own_session, restore, sent
from signalbus_core.rabbitmq import Message, replayed_messages
from signalbus_core.sql.sent.history import EVERY_SENT
from signalbus_core.testing import FakePublisher
from tests.support.fuzzing import FACTOR
from tests.support.outbox_app import OutboxApp
from tests.support.servers import Postgres

#: Values of each type, as PostgreSQL reads them.
VALUES: dict[str, list[str]] = {
    "bigint": ["0", "-9223372036854775808", "9223372036854775807"],
    "numeric": ["NaN", "Infinity", "-0.000", "1.50", "1e-30", "123456789012345678901234567890.5"],
    "numeric(9,2)": ["1.5", "-0.01"],
    "real": ["NaN", "-Infinity", "-0", "1e-45", "0.1"],
    "double precision": ["NaN", "Infinity", "-0", "5e-324", "0.1", "1.7976931348623157e308"],
    "boolean": ["t", "f"],
    "text": ["", " ", "\\", "'", '"', "{}", "null", "NULL", "ä€𝄞", "a\nb\tc\u0001\u2028", "%s %(x)s :y \\x00"],
    "varchar(5)": ["12345", "  "],
    "char(5)": ["1", "12345"],
    '"char"': ["x"],
    "bytea": ["", "\\x00ff27225c", "\\x"],
    "date": ["infinity", "-infinity", "0001-01-01 BC", "9999-12-31"],
    "time": ["24:00:00", "00:00:00.000001"],
    "timetz": ["12:00:00.5+05:30"],
    "timestamp": ["infinity", "4713-01-01 00:00:00 BC", "2026-01-02 03:04:05.678901"],
    "timestamptz": ["infinity", "-infinity", "2026-03-29 02:30:00.000001+01", "0044-03-15 00:00:00+00 BC"],
    "timestamptz(0)": ["2026-03-29 02:30:00+01"],
    "interval": ["1 year -2 mons 3 days -04:05:06.789", "-1 day", "00:00:00.000001", "-00:00:01"],
    "uuid": ["0c7e4e9e-7d4c-4c7f-9d0e-0123456789ab"],
    "json": ["null", '{"b": 1,  "a": 1.0, "a": 2}', '[1, "\\u00e4", 1e400]', '"x"', "{ }"],
    "jsonb": ["null", '{"b": 1.10, "a": [null, true]}', '"x"', "1e400", "0.00"],
    "int[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[2:3]={5,6}"],
    "text[]": ['{"","NULL",NULL,"a,b","\\"","\\\\","{"}'],
    "jsonb[]": ['{"null",NULL,"{\\"a\\": 1}"}'],
    "int4range": ["empty", "[1,5)", "(,)", "[3,)"],
    "tstzrange": ['["2026-01-01 00:00:00+00",infinity]'],
    "int4multirange": ["{}", "{[1,2),[5,9)}"],
    "inet": ["10.0.0.1/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "bit(3)": ["101"],
    "bit varying": ["", "10101"],
    "point": ["(0.1,-0)"],
    "money": ["-1.50"],
    "xml": ["<a>&amp;</a>"],
    "tsvector": ["'a':1A 'b c':2"],
    "oid": ["4294967295"],
    "mood": ["so so", "it's"],
    "positive": ["1"],
    "tags": ['{"a","b,c"}'],
    "pair": ['(1,"a ""b"", \\\\")', "(,)", '(2,"")'],
    "pair[]": ['{"(1,x)",NULL,"(,\\"\\")"}'],
}

TYPES = list(VALUES)

SETUP = (
    "CREATE TYPE mood AS ENUM ('so so', 'it''s')",
    "CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
    "CREATE DOMAIN tags AS text[] CHECK (array_length(VALUE, 1) > 0)",
    'CREATE TYPE pair AS (number int, "a text" text)',
)


class Any_(sa.types.UserDefinedType[Any]):
    """A column of any type, which Python reads as text."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name

    def column_expression(self, column: Any) -> Any:
        return sa.cast(column, sa.Text)


@pytest.fixture(scope="module")
def outbox(postgres: Postgres) -> Iterator[OutboxApp]:
    with postgres.lend_database() as url:
        yield from made_outbox(url)


def made_outbox(url: str) -> Iterator[OutboxApp]:
    outbox = OutboxApp(url)
    columns = {f"c{number}": sa.Column(f"c \"{number}%:'", Any_(kind)) for number, kind in enumerate(TYPES)}
    outbox.model("Odd", signalbus_keep_days=1, signalbus_burst_count=100, **columns)
    with outbox.app.app_context():
        outbox.execute(*SETUP)
    outbox.create()
    yield outbox
    outbox.close()


def as_bytes(outbox: OutboxApp) -> list[Any]:
    """The rows of the table, with all that PostgreSQL tells of a value."""
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        return list(connection.execute(sa.text("SELECT CAST(record_send(odd) AS bytea) AS sent FROM odd")).scalars())


def write(outbox: OutboxApp, values: dict[str, str | None]) -> None:
    names = [PLAIN.identifier_preparer.quote(f"c \"{TYPES.index(kind)}%:'") for kind in values]
    shown = [f"CAST(:v{number} AS {kind})" for number, kind in enumerate(values)]
    statement = sa.text(
        f"INSERT INTO odd (id, {', '.join(names).replace(':', chr(92) + ':')}) VALUES (1, {', '.join(shown)})"
    )
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE odd, signalbus_sent"))
        connection.execute(statement, {f"v{number}": value for number, value in enumerate(values.values())})


rows = st.fixed_dictionaries({kind: st.sampled_from([None, *values]) for kind, values in VALUES.items()})

#: What an application, or the settings of a login, may have set.
SETTINGS = st.sampled_from(
    ["SET intervalstyle = sql_standard", "SET datestyle = 'SQL, DMY'", "SET extra_float_digits = 0",
     "SET bytea_output = escape", "SET timezone = 'Asia/Kolkata'", "SET standard_conforming_strings = on"]
)  # fmt: skip


@settings(deadline=None, max_examples=15 * FACTOR, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=rows, setting=SETTINGS)
def test_every_type_round_trips(outbox: OutboxApp, values: dict[str, str | None], setting: str) -> None:
    check(outbox, values, setting)


@pytest.mark.parametrize("number", range(max(map(len, VALUES.values()))))
def test_each_value_round_trips(outbox: OutboxApp, number: int) -> None:
    check(outbox, {kind: values[number % len(values)] for kind, values in VALUES.items()}, "SET timezone = UTC")


#: Columns as an application declares them, with values that drivers can read.
DECLARED: dict[str, tuple[Any, list[str]]] = {
    "number": (sa.BigInteger(), ["0", "-9223372036854775808"]),
    "price": (sa.Numeric(), ["NaN", "-0.000", "1.50", "1e-30"]),
    "ratio": (sa.Double(), ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "0.1"]),
    "single": (sa.REAL(), ["-0", "1e-45", "0.1", "NaN"]),
    "flag": (sa.Boolean(), ["t", "f"]),
    "note": (sa.Text(), ["", "NULL", "null", "a\nb\u2028", "ä€𝄞", "\\x00"]),
    "padded": (sa.CHAR(5), ["1", "12345"]),
    "data": (sa.LargeBinary(), ["", "\\x00ff27225c"]),
    "day": (sa.Date(), ["0001-01-01", "9999-12-31"]),
    "moment": (sa.DateTime(timezone=True), ["2026-03-29 02:30:00.000001+01", "9999-12-30 23:59:59.999999+00"]),
    "plain_moment": (sa.DateTime(), ["2026-01-02 03:04:05.678901"]),
    "length": (postgresql.INTERVAL(), ["1 year -2 mons 3 days -04:05:06.789", "-00:00:01"]),
    "own_id": (sa.Uuid(), ["0c7e4e9e-7d4c-4c7f-9d0e-0123456789ab"]),
    "document": (postgresql.JSONB(none_as_null=False), ["null", '{"b": 1.10, "a": [null, true]}', '"x"']),
    "text_document": (sa.JSON(), ["null", '{"b": 1,  "a": 2}', "[]"]),
    "numbers": (postgresql.ARRAY(sa.Integer), ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[2:3]={5,6}"]),
    "words": (postgresql.ARRAY(sa.Text), ['{"","NULL",NULL,"a,b"}']),
    "range": (postgresql.INT4RANGE(), ["empty", "[1,5)", "(,)", "[3,)"]),
    "address": (postgresql.INET(), ["10.0.0.1/8", "::1"]),
    "bits": (postgresql.BIT(3), ["101"]),
    "mood": (postgresql.ENUM("so so", "it's", name="mood", create_type=False), ["so so", "it's"]),
    "positive": (Any_("positive"), ["1"]),
    "pair": (Any_("pair"), ['(1,"a ""b"", \\\\")', "(,)"]),
}

declared_rows = st.fixed_dictionaries(
    {name: st.sampled_from([None, *values]) for name, (_, values) in DECLARED.items()}
)


def as_message(signal: Any) -> Message:
    """A message that has all columns as the application sees them."""
    return Message("odd", "", repr([getattr(signal, name) for name in DECLARED]))


@pytest.fixture(scope="module")
def declared(postgres: Postgres) -> Iterator[tuple[OutboxApp, FakePublisher]]:
    with postgres.lend_database() as url:
        outbox = OutboxApp(url)
        publisher = FakePublisher(outbox.app)
        columns = {name: sa.Column(kind) for name, (kind, _) in DECLARED.items()}
        created = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp())
        outbox.rabbitmq_model("Declared", as_message, signalbus_keep_days=1, created_at=created, **columns)
        with outbox.app.app_context():
            outbox.execute(*SETUP)
        outbox.create()
        yield outbox, publisher
        publisher.close()
        outbox.close()


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=declared_rows)
def test_messages_of_replays_are_equal(
    declared: tuple[OutboxApp, FakePublisher], values: dict[str, str | None]
) -> None:
    check_message(declared, values)


@pytest.mark.parametrize("number", range(max(len(values) for _, values in DECLARED.values())))
def test_message_of_a_replay_is_equal_byte_for_byte(declared: tuple[OutboxApp, FakePublisher], number: int) -> None:
    check_message(declared, {name: values[number % len(values)] for name, (_, values) in DECLARED.items()})


def check_message(declared: tuple[OutboxApp, FakePublisher], values: dict[str, str | None]) -> None:
    outbox, publisher = declared
    model = outbox.models["Declared"]
    spec = outbox.spec(model)
    columns = {name: value for name, value in values.items() if value is not None}
    kinds = [DECLARED[name][0].compile(dialect=postgresql.dialect()) for name in columns]
    shown = "".join(f", CAST(:{name} AS {kind})" for name, kind in zip(columns, kinds, strict=True))
    with outbox.app.app_context(), outbox.db.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE declared, signalbus_sent"))
        named = "".join(f', "{name}"' for name in columns)
        connection.execute(sa.text(f"INSERT INTO declared (id{named}) VALUES (1{shown})"), columns)
    before = len(publisher.broker.messages)
    assert outbox.burst(model).sent == 1
    [first] = publisher.broker.messages[before:]
    with outbox.app.app_context(), outbox.db.engine.connect() as connection:
        [one] = sent.first_sent(connection, spec, EVERY_SENT, None, 10)
    with outbox.app.app_context(), own_session(outbox.db, outbox.app) as session:
        signal = restore(session, spec, [one])[one.place].signal
        [again] = replayed_messages(signal, [message.message_id for message in one.messages], one.sent_at)
    assert str(again.body).encode() == first.body
    assert (again.exchange, again.routing_key) == (first.exchange, first.routing_key)
    assert vars(again.properties) == vars(first.properties)


def check(outbox: OutboxApp, values: dict[str, str | None], setting: str) -> None:
    model = outbox.models["Odd"]
    spec = outbox.spec(model)
    write(outbox, values)
    before = as_bytes(outbox)
    with outbox.app.app_context():
        with own_session(outbox.db, outbox.app) as session:
            session.connection().exec_driver_sql(setting)
            session.commit()
        assert outbox.burst(model).sent == 1
        with outbox.db.engine.begin() as connection:
            connection.exec_driver_sql("RESET ALL")
            [one] = sent.list_sent(connection, spec, EVERY_SENT, 10)
        with own_session(outbox.db, outbox.app) as session:
            signal = restore(session, spec, [one])[one.place].signal
            texts = {kind: getattr(signal, f"c{number_of}") for number_of, kind in enumerate(TYPES)}
            session.rollback()
    # Written again from what was restored, it is the same row.
    write(outbox, texts)
    assert as_bytes(outbox) == before
