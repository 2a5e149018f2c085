"""Corners of the burst and of signals that are set aside: odd keys, odd rows, odd senders, other applications."""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import TableRetryStore
from signalbus_core import Outcome, OutcomeKind, PartialDeliveryError, SignalBusMixin
from signalbus_core.burst import failpoints
from signalbus_core.lowlevel import BurstLimits, Choice, FailedSignal, LeaveOut, parked, send_burst, transaction

RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")


NOT_SET_ASIDE = Choice(LeaveOut.FAILED)


class Database(SignalBusMixin, SQLAlchemy):
    pass


class App:
    def __init__(self, url: str, name: str = "Order", table: str = "order", **members: Any) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = db = Database(self.app)
        self.sent: list[Any] = []
        self.sender: Callable[[], object] = lambda: None
        given = {
            "__tablename__": table,
            "id": db.Column(sa.BigInteger, primary_key=True, autoincrement=False),
            "note": db.Column(sa.Text),
            "send_signalbus_message": lambda signal: self.send(signal),
            **members,
        }
        self.model: Any = type(name, (db.Model,), given)
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
            self.spec = db.signalbus.specs()[0]

    def send(self, signal: Any) -> None:
        self.sent.append((signal.id, getattr(signal, "note", None)))
        self.sender()

    def execute(self, text: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(text))

    def all(self, text: str) -> list[Any]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(text))]

    def retry_store(self, park_after: int = 12) -> TableRetryStore:
        rules = RetryPolicy(park_after, uniform=lambda _low, _high: 0.0)
        rules._refused.shortest_seconds = rules._fault.shortest_seconds = 0.0
        return TableRetryStore(self.spec, self.engine, rules, BurstLimits())

    def burst(self, choice: Choice = NOT_SET_ASIDE, **arguments: Any) -> Any:
        with self.app.app_context():
            return send_burst(self.db.session(), self.spec, choice=choice, **arguments)


@pytest.fixture
def make(database_url: str) -> Iterator[Callable[..., App]]:
    apps: list[App] = []

    def new(*arguments: Any, **members: Any) -> App:
        apps.append(App(database_url, *arguments, **members))
        return apps[-1]

    yield new
    failpoints.switch_on(None)
    for app in apps:
        app.engine.dispose()


def test_column_widened_in_database_alone_loses_no_signal(make: Callable[..., App]) -> None:
    app = make(id=sa.Column(sa.String(5), primary_key=True))
    app.execute('ALTER TABLE "order" ALTER id TYPE text')
    app.execute("""INSERT INTO "order" VALUES ('order', 'set aside'), ('order-2', 'good')""")
    app.retry_store().put([FailedSignal(("order",), REFUSED)])
    assert app.burst(rehearse=True).sent == 1
    assert app.sent == [("order-2", "good")]
    assert app.all('SELECT id FROM "order"') == [("order",)], "the one that was never sent is still there"


def test_the_right_signal_is_discarded_of_a_widened_column(make: Callable[..., App]) -> None:
    app = make(id=sa.Column(sa.String(5), primary_key=True))
    app.execute('ALTER TABLE "order" ALTER id TYPE text')
    app.execute("""INSERT INTO "order" VALUES ('order', 'healthy'), ('order-2', 'bad')""")
    app.execute(
        "INSERT INTO signalbus_parked VALUES ('order', 'order-2', 'Order', 12, now(), now(), NULL, 'error', '')"
    )
    with app.engine.begin() as connection:
        parked.discard(connection, app.spec, "order-2")
    assert app.all('SELECT id FROM "order"') == [("order",)]


def test_new_signal_under_key_of_sent_one_is_not_deleted(make: Callable[..., App]) -> None:
    app = make()
    app.execute("""INSERT INTO "order" VALUES (42, 'old')""")

    def answer_to_commit_is_lost(place: str) -> None:
        if place == "committed":
            failpoints.switch_on(None)
            app.execute("""INSERT INTO "order" VALUES (42, 'new')""")  # the application goes on
            raise sa.exc.OperationalError("COMMIT", None, Exception("server closed the connection"))

    failpoints.switch_on(answer_to_commit_is_lost)
    app.burst()
    assert app.sent == [(42, "old")]
    assert app.all('SELECT note FROM "order"') == [("new",)], "it was never sent"


def test_a_new_signal_under_the_key_of_a_sent_one_outlives_a_send_method_that_commits(make: Callable[..., App]) -> None:
    app = make()
    app.execute("""INSERT INTO "order" VALUES (42, 'old')""")

    def replaced_without_a_lock(place: str) -> None:
        if place == "confirmed":
            app.db.session.commit()
            app.execute('DELETE FROM "order" WHERE id = 42')
            app.execute("""INSERT INTO "order" VALUES (42, 'new')""")

    failpoints.switch_on(replaced_without_a_lock)
    app.burst()
    assert app.sent == [(42, "old")]
    assert app.all('SELECT note FROM "order"') == [("new",)], "it was never sent"


@pytest.mark.parametrize("seconds", [0.5, 2.5], ids=["short send", "long send"])
def test_a_discard_waits_for_a_burst_that_is_trying_the_signal(make: Callable[..., App], seconds: float) -> None:
    discarded: list[Any] = []
    app = make(send_signalbus_message=lambda signal: start())
    app.execute("""INSERT INTO "order" VALUES (42, 'x')""")
    app.retry_store().put([FailedSignal((42,), REFUSED)])
    threads: list[threading.Thread] = []

    def discard() -> None:
        try:
            with transaction(app.engine, BurstLimits(lock_timeout_seconds=40)) as connection:
                discarded.append(parked.discard(connection, app.spec, "42"))
        except sa.exc.OperationalError as error:
            discarded.append(str(error.orig).splitlines()[0])

    def start() -> None:
        threads.append(threading.Thread(target=discard))
        threads[0].start()
        threading.Event().wait(seconds)  # longer than it takes the discard to wait for our row

    result = app.burst(Choice(LeaveOut.FAILED, only=((42,),)))
    threads[0].join()
    assert result.sent == 1
    assert discarded == [None], "it was sent, so it must not be recorded as discarded"


def test_signals_of_another_application_are_not_left_out(
    make: Callable[..., App],
) -> None:
    one, other = make("Outbox", "shop_outbox"), make("Outbox", "billing_outbox")
    for app in (one, other):
        app.execute(f"INSERT INTO {app.spec.table.name} VALUES (42, 'x')")
    one.retry_store(park_after=1).put([FailedSignal((42,), RAISED)])
    assert other.burst().sent == 1


def test_tidying_up_leaves_notes_of_another_application(
    make: Callable[..., App],
) -> None:
    one, other = make("Outbox", "shop_outbox"), make("Outbox", "billing_outbox")
    one.execute("INSERT INTO shop_outbox VALUES (42, 'x')")
    one.retry_store(park_after=1).put([FailedSignal((42,), RAISED)])
    other.retry_store().clean_up()
    assert len(one.all("SELECT key FROM signalbus_parked")) == 1


def test_note_whose_key_cannot_be_cast_does_not_hold_up_retries(make: Callable[..., App]) -> None:
    app = make()
    app.execute("INSERT INTO signalbus_parked VALUES ('order', '3f2a', 'Order', 1, now(), now(), now(), 'error', '')")
    app.execute("""INSERT INTO "order" VALUES (7, 'x')""")
    app.retry_store().put([FailedSignal((7,), REFUSED)])
    assert app.retry_store().take_due(10).keys == ((7,),)
    app.retry_store().clean_up()
    assert app.all("SELECT key FROM signalbus_parked") == [("7",)]


class Colour(enum.Enum):
    RED = "red"


def test_a_row_that_cannot_be_loaded_does_not_hold_up_its_model(make: Callable[..., App]) -> None:
    app = make(colour=sa.Column(sa.Enum(Colour, native_enum=False, length=10)))
    app.execute("""INSERT INTO "order" (id, colour) VALUES (1, 'GREEN'), (2, 'RED')""")
    assert app.burst(limit=10).sent == 1


def test_flushmany_ends_when_a_sender_does_not_say_what_failed(make: Callable[..., App]) -> None:
    calls: list[int] = []

    def send(_signal: Any) -> None:
        calls.append(1)
        if len(calls) == 50:
            raise KeyboardInterrupt
        raise PartialDeliveryError(delivered=[])

    app = make(send_signalbus_message=send)
    app.execute("""INSERT INTO "order" VALUES (1, 'x')""")
    with app.app.app_context(), contextlib.suppress(PartialDeliveryError, KeyboardInterrupt):
        app.db.signalbus.flushmany()
    assert len(calls) < 50


def test_a_reason_with_a_lone_surrogate_is_noted(make: Callable[..., App]) -> None:
    app = make()
    app.execute("""INSERT INTO "order" VALUES (1, 'x')""")
    reason = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad name \ud800", cause="error")
    app.retry_store().put([FailedSignal((1,), reason)])


def test_a_note_holds_whatever_the_time_zone_of_the_session(make: Callable[..., App]) -> None:
    app = make(id=sa.Column(sa.DateTime(timezone=True), primary_key=True))
    app.execute("""INSERT INTO "order" VALUES ('2026-01-01 12:00+00', 'x')""")
    [(key,)] = app.all('SELECT id FROM "order"')
    app.retry_store(park_after=1).put([FailedSignal((key,), RAISED)])
    database = app.engine.url.database
    app.execute(f"""ALTER DATABASE "{database}" SET timezone TO 'Asia/Tokyo'""")
    app.engine.dispose()
    assert app.burst().selected == 0


def test_flushmany_does_not_send_parked_signals_when_its_login_lacks_a_privilege(make: Callable[..., App]) -> None:
    app = make()
    app.execute("""INSERT INTO "order" VALUES (1, 'x')""")
    app.retry_store(park_after=1).put([FailedSignal((1,), RAISED)])
    role = f"flusher_{app.engine.url.database}"
    app.execute(f'CREATE ROLE "{role}"')
    app.execute(f'GRANT ALL ON "order" TO "{role}"')
    app.execute(f'GRANT SELECT ON signalbus_parked TO "{role}"')

    @sa.event.listens_for(app.engine, "begin")
    def become(connection: Any) -> None:
        connection.exec_driver_sql(f'SET LOCAL ROLE "{role}"')

    with app.app.app_context():
        app.db.signalbus.flushmany()
    sa.event.remove(app.engine, "begin", become)
    assert app.sent == []


def test_flushmany_shows_no_payload_of_a_database_error(database_url: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)

    class Audit(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.Text)

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        body = db.Column(db.Text)

        def send_signalbus_message(self) -> None:
            db.session.execute(db.insert(Audit).values(id=1, text=self.body))

    with app.app_context():
        db.create_all()
        db.session.add(Audit(id=1, text=""))
        db.session.add(Order(id=1, body="card 4111111111111111"))
        db.session.commit()
        db.session.remove()
    result = app.test_cli_runner().invoke(args=["signalbus", "flushmany"])
    with app.app_context():
        db.engine.dispose()
    assert "4111111111111111" not in result.output, result.output


def test_of_million_signals_burst_reads_no_more_than_it_takes(make: Callable[..., App]) -> None:
    app = make()
    assert app.burst(limit=10).selected == 0
    app.execute("""INSERT INTO "order" SELECT n, 'x' FROM generate_series(1, 1000000) n""")
    app.execute('ANALYZE "order"')
    app.retry_store().put([FailedSignal((3,), REFUSED)])
    reads = "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'order'"
    read: list[Any] = []
    app.sender = lambda: read.extend(app.db.session.execute(sa.text(reads)).all())
    assert app.burst(limit=10).sent == 10
    assert [number for number, _ in app.sent] == [1, 2, *range(4, 12)]
    [(by_scan, by_index), *_] = read
    assert by_scan == 0
    assert by_index < 100
