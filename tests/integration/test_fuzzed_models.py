"""Models of any name, key and shape: what was written is sent once, and is gone."""

from __future__ import annotations

import itertools
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from signalbus_core import SignalModelError
from tests.support.fuzzing import fuzzed
from tests.support.outbox_app import make_app
from tests.support.servers import Postgres

#: What PostgreSQL takes as a name or a text. Names are cut after 63 bytes.
LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
TEXTS = st.text(LETTERS, max_size=12)
NAMES = st.text(LETTERS, min_size=1, max_size=15).filter(lambda name: len(name.encode()) < 50)

DAY = timedelta(days=1)
MOMENTS = st.dates(date.min + DAY, date.max - DAY).map(lambda day: datetime.combine(day, time(1, 2, 3, 456789)))
#: The types of key columns, with their values.
KEYS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "smallint": (sa.SmallInteger, st.integers(-(2**15), 2**15 - 1)),
    "integer": (sa.Integer, st.integers(-(2**31), 2**31 - 1)),
    "bigint": (sa.BigInteger, st.integers(-(2**63), 2**63 - 1)),
    "numeric": (
        sa.Numeric,
        st.decimals(-(10**9), 10**9, places=6),
    ),
    "text": (sa.Text, TEXTS),
    "char": (sa.CHAR(12), TEXTS.map(lambda text: text.rstrip(" "))),
    "uuid": (sa.Uuid, st.uuids()),
    "bytea": (sa.LargeBinary, st.binary(max_size=12)),
    "boolean": (sa.Boolean, st.booleans()),
    "date": (sa.Date, st.dates()),
    "timestamp": (sa.DateTime, MOMENTS),
    "timestamptz": (sa.DateTime(timezone=True), MOMENTS.map(lambda moment: moment.replace(tzinfo=timezone.utc))),
    "interval": (sa.Interval, st.integers(-(10**9), 10**9).map(lambda seconds: timedelta(seconds=seconds))),
    "inet": (postgresql.INET, st.ip_addresses().map(str)),
}
TYPES = st.sampled_from(sorted(KEYS))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]], list[tuple[Any, ...]]]:
    """A table's name, its key columns with their types, and the keys of its rows."""
    columns = draw(st.lists(st.tuples(NAMES, TYPES), min_size=1, max_size=3, unique_by=lambda column: column[0]))
    keys = draw(st.lists(st.tuples(*(KEYS[kind][1] for _, kind in columns)), max_size=8, unique_by=repr))
    return draw(NAMES), columns, keys


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.create_database()


_numbers = itertools.count()


@fuzzed(12)
@given(shape=shapes(), burst_count=st.sampled_from([1, 3, 100]), sends_many=st.booleans())
def test_signals_of_any_shape_are_sent_once_and_gone(
    url: str,
    shape: tuple[str, list[tuple[str, str]], list[tuple[Any, ...]]],
    burst_count: int,
    sends_many: bool,
) -> None:
    name, columns, keys = shape
    schema = f"s{next(_numbers)}"
    app, db = make_app(url)
    sent: list[Any] = []

    def send(*signals: Any) -> None:
        sent.extend(sa.inspect(signal).identity for signal in signals)

    members: dict[str, Any] = {
        f"key_{number}": sa.Column(column, KEYS[kind][0], primary_key=True, autoincrement=False)
        for number, (column, kind) in enumerate(columns)
    }
    if sends_many:
        members["send_signalbus_messages"] = classmethod(lambda cls, signals: send(*signals))
    members |= {
        "__tablename__": name,
        "__table_args__": {"schema": schema},
        "send_signalbus_message": send,
        "signalbus_burst_count": burst_count,
    }
    model: Any = type("Fuzzed", (db.Model,), members)
    with app.app_context():
        db.session.execute(sa.schema.CreateSchema(schema))
        db.session.commit()
        db.create_all()
        for key in keys:
            values = {f"key_{number}": part for number, part in enumerate(key)}
            # Keys that PostgreSQL holds for equal are left out.
            db.session.execute(postgresql.insert(model).values(values).on_conflict_do_nothing())
        db.session.commit()
        written = db.signalbus.pending()[model]
        assert db.signalbus.flushmany() == written == len({*sent}) == len(sent)
        assert db.signalbus.pending()[model] == 0
        db.session.execute(sa.schema.DropSchema(schema, cascade=True))
        db.session.commit()
        db.engine.dispose()


@pytest.mark.parametrize("column", [sa.ARRAY(sa.Text), sa.ARRAY(sa.Text, as_tuple=True), postgresql.JSONB()])
def test_a_key_of_a_compound_type_is_refused(column: Any) -> None:
    app, db = make_app("postgresql+psycopg2://127.0.0.1:1/none")
    members = {"id": sa.Column(column, primary_key=True), "send_signalbus_message": lambda self: None}
    model = type("Listed", (db.Model,), members)
    with app.app_context(), pytest.raises(SignalModelError, match=r"key column 'id' .* another primary key"):
        db.signalbus.flushmany([model])
