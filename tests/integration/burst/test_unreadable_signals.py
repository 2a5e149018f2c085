"""Rows that fail the statement of a burst, in the server or in Python: each is told alone, and holds up no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects.postgresql import JSONB, REGCONFIG
from sqlalchemy.orm import column_property

from relay.application.databases import limit_connections
from signalbus_core import BurstError, SignalBusMixin, UnreadableSignalError
from signalbus_core.burst import flush
from signalbus_core.lowlevel import BurstLimits, BurstResult, Choice, own_session, send_burst
from tests.support.outbox_app import OutboxApp

DIGITS = "9" * 5000

#: What computes a value from a row, or reads it, and what it fails for.
CAUSES: dict[str, tuple[str, str]] = {
    "divided": ("0", "DivisionByZero"),
    "cast": ("x", "InvalidTextRepresentation"),
    "called": ("secret", "RaiseException"),
    "json": (f'{{"n": {DIGITS}}}', "ValueError"),
    "configured": ("klingon", "UndefinedObject"),
    "time": ("20000-01-01", "ValueError"),
}


class Checked(sa.TypeDecorator[str]):
    """A key that is refused by its type."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        if value.startswith("bad"):
            raise ValueError(value)
        return value


class Outbox:
    def __init__(self, database_url: str) -> None:
        class Database(SignalBusMixin, SQLAlchemy):
            pass

        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        self.sent: list[Any] = []
        outbox = self

        class Sent(db.Model):  # type: ignore[name-defined,misc]
            __abstract__ = True
            signalbus_burst_count = 20

            def send_signalbus_message(self) -> None:
                outbox.sent.append(self.id)

        def table(name: str) -> sa.Table:
            return sa.Table(
                name, db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text)
            )

        def model(name: str, **members: Any) -> Any:
            return type(name.title(), (Sent,), {"__table__": members.pop("table"), **members})

        tables = {name: table(name) for name in ("divided", "cast", "called", "configured")}
        self.models = {
            "divided": model(
                "divided",
                table=tables["divided"],
                share=column_property(100 / sa.cast(tables["divided"].c.text, sa.Integer)),
            ),
            "cast": model(
                "cast", table=tables["cast"], number=column_property(sa.cast(tables["cast"].c.text, sa.Integer))
            ),
            "called": model(
                "called",
                table=tables["called"],
                checked=column_property(sa.func.checked(tables["called"].c.text, type_=sa.Text)),
            ),
        }
        words = sa.func.to_tsvector(sa.cast(tables["configured"].c.text, REGCONFIG), "tea", type_=sa.Text)
        self.models["configured"] = model("configured", table=tables["configured"], words=column_property(words))
        keyed = sa.Table("keyed", db.metadata, sa.Column("id", Checked, primary_key=True))
        self.models["keyed"] = model("keyed", table=keyed)
        for name, kind in (("json", JSONB), ("time", sa.DateTime)):
            read = sa.Table(name, db.metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", kind()))
            self.models[name] = model(name, table=read)
        with self.app.app_context():
            with db.engine.begin() as connection:
                connection.exec_driver_sql(
                    "CREATE FUNCTION checked(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
                    " IF t = 'secret' THEN RAISE EXCEPTION 'bad %%', t; END IF; RETURN t; END $$"
                )
            db.create_all()
            self.engine = db.engine
        self.bus = db.signalbus

    def write(self, cause: str, count: int, bad: set[int]) -> None:
        good = {"json": "{}", "time": "2026-01-01", "configured": "english"}.get(cause, "5")
        with self.engine.begin() as connection:
            for number in range(count):
                text = CAUSES[cause][0] if number in bad else good
                connection.execute(
                    sa.text(f'INSERT INTO "{cause}" VALUES (:id, CAST(:text AS {self.kind(cause)}))'),
                    {"id": number, "text": text},
                )

    def kind(self, cause: str) -> str:
        return {"json": "jsonb", "time": "timestamp"}.get(cause, "text")

    def burst(self, cause: str, **arguments: Any) -> BurstResult:
        with own_session(self.db, self.app) as session:
            [spec] = self.bus.specs([self.models[cause]])
            return send_burst(session, spec, **arguments)

    def flush(self, cause: str) -> int:
        with self.app.app_context():
            return int(self.bus.flushmany([self.models[cause]]))


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("rehearse", [False, True])
def test_a_row_that_cannot_be_loaded_is_told_and_others_go_on(outbox: Outbox, cause: str, rehearse: bool) -> None:
    outbox.write(cause, 15, {4, 5, 11})
    result = outbox.burst(cause, rehearse=rehearse)
    assert outbox.sent == [number for number in range(15) if number not in {4, 5, 11}]
    assert [(one.key, one.outcome.cause, one.outcome.reason) for one in result.failed] == [
        ((number,), "invalid", f"its row cannot be loaded ({CAUSES[cause][1]})") for number in (4, 5, 11)
    ]
    assert (result.sent, result.selected, result.error) == (12, 15, None)


@pytest.mark.parametrize("cause", CAUSES)
def test_flushmany_sends_what_can_be_loaded_and_tells_of_rest(outbox: Outbox, cause: str) -> None:
    outbox.write(cause, 50, {0, 30})
    with pytest.raises(UnreadableSignalError, match="2 signals of") as raised:
        outbox.flush(cause)
    assert raised.value.keys == [(0,), (30,)]
    assert "secret" not in str(raised.value)
    assert sorted(outbox.sent) == [number for number in range(50) if number not in {0, 30}]


@pytest.mark.parametrize("burst_count", [1, 2, 20])
def test_rows_with_unloadable_keys_are_passed_over_and_told(
    outbox: Outbox, burst_count: int, caplog: pytest.LogCaptureFixture
) -> None:
    with outbox.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO keyed VALUES ('bad 1'), ('bad 2'), ('good 1'), ('good 2')")
    for number in range(0, 2, min(burst_count, 2)):
        assert outbox.burst("keyed", limit=burst_count).sent == min(burst_count, 2), number
    assert outbox.sent == ["good 1", "good 2"]
    assert "keys_not_loaded" in {getattr(record, "action", None) for record in caplog.records}
    assert "bad 1" not in caplog.text
    with pytest.raises(BurstError, match=r"primary keys of . signals? of Keyed cannot be loaded"):
        outbox.burst("keyed", limit=burst_count)


def test_what_concerns_every_row_is_no_fault_of_a_row(outbox: Outbox) -> None:
    outbox.write("called", 3, set())
    with outbox.engine.begin() as connection:
        connection.execute(sa.text("DROP FUNCTION checked"))
    with pytest.raises(sa.exc.ProgrammingError, match="checked"):
        outbox.burst("called")


def test_a_lock_that_takes_too_long_is_no_fault_of_a_row(outbox: Outbox) -> None:
    outbox.write("called", 3, set())
    with outbox.engine.connect() as other:
        other.execute(sa.text("LOCK TABLE called"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            outbox.burst("called", limits=BurstLimits(lock_timeout_seconds=0.2))
    assert outbox.burst("called").sent == 3


def test_a_row_that_takes_too_long_to_read_holds_up_no_other(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox.write("called", 4, {1})
    with outbox.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION checked(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
            " IF t = 'secret' THEN PERFORM pg_sleep(60); END IF; RETURN t; END $$"
        )
    # Among others it is not known which row it is: a relay goes on with a single one.
    limits = BurstLimits(statement_timeout_seconds=0.5)
    with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
        outbox.burst("called", limits=limits)
    [failed] = outbox.burst("called", limits=limits, limit=1, choice=Choice(start=1)).failed
    assert (failed.key, failed.outcome.reason) == ((1,), "its row cannot be loaded (QueryCanceled)")
    monkeypatch.setattr(send_burst, "__kwdefaults__", {**send_burst.__kwdefaults__, "limits": limits})
    with pytest.raises(UnreadableSignalError, match="1 signal of Called"):
        outbox.flush("called")
    assert sorted(outbox.sent) == [0, 2, 3]


def test_a_relay_reads_in_utf8_whatever_the_database_prefers(database_url: str) -> None:
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE \"{engine.url.database}\" SET client_encoding = 'LATIN1'")
    limit_connections(engine)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW client_encoding")) == "UTF8"
        assert connection.scalar(sa.text("SELECT chr(8364)")) == "\N{EURO SIGN}"
    engine.dispose()


def test_a_row_that_does_not_tell_its_class_holds_up_no_other(database_url: str) -> None:
    class Database(SignalBusMixin, SQLAlchemy):
        pass

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)
    sent = []

    class Order(db.Model):  # type: ignore[name-defined,misc]
        signalbus_burst_count = 20
        id = db.Column(db.Integer, primary_key=True)
        kind = db.Column(db.Text)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "order"}

        def send_signalbus_message(self) -> None:
            sent.append(self.id)

    class Renewal(Order):
        __mapper_args__ = {"polymorphic_identity": "renewal"}

    with app.app_context():
        db.create_all()
        db.session.execute(
            sa.text("INSERT INTO \"order\" VALUES (1, 'order'), (2, NULL), (3, 'no class'), (4, 'renewal')")
        )
        db.session.commit()
        with pytest.raises(UnreadableSignalError, match="2 signals of Order"):
            db.signalbus.flushmany()
        assert db.signalbus.pending() == {Order: 2}
        db.engine.dispose()
    assert sorted(sent) == [1, 4]


def test_flushmany_tells_of_keys_that_python_cannot_represent(database_url: str) -> None:
    outbox = OutboxApp(database_url)
    day = outbox.model("Day", id=sa.Column(sa.Date, primary_key=True))
    outbox.create()
    outbox.execute("INSERT INTO day VALUES ('infinity'), ('2026-01-01')")
    with outbox.app.app_context(), pytest.raises(UnreadableSignalError, match="1 signal of Day cannot be sent"):
        outbox.db.signalbus.flushmany()
    outbox.execute("DELETE FROM day WHERE id = 'infinity'")
    assert outbox.left(day) == []
    outbox.close()


def test_flushmany_succeeds_where_unsent_signals_take_too_long_to_count(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = OutboxApp(database_url)
    model = app.model("Daily", id=sa.Column(sa.Date, primary_key=True))
    app.create()
    app.execute("INSERT INTO daily VALUES ('2026-01-01')")

    def count(connection: Any, *_: Any) -> int:
        return int(connection.scalar(sa.text("SELECT 1 FROM pg_sleep(60)")))

    monkeypatch.setattr(flush, "count_unloadable_keys", count)
    monkeypatch.setattr(flush, "MOST_LOOK_SECONDS", 0.05, raising=False)
    with app.app.app_context():
        assert app.db.signalbus.flushmany([model]) == 1
    app.close()
