"""The bus has a session of its own in whatever scope the application gives its sessions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import BurstLimits, autocommit, find_work, own_session
from signalbus_core.testing import pending_signals
from tests.support.outbox_app import OutboxApp

#: What applications give as the scope of a session.
SCOPES: dict[str, dict[str, Any]] = {
    "default": {},
    "constant": {"scopefunc": lambda: 1},
    "thread": {"scopefunc": threading.get_ident},
    "thread local": {"scopefunc": None},
}


class Shop:
    def __init__(self, database_url: str, session_options: dict[str, Any]) -> None:
        class Database(SignalBusMixin, SQLAlchemy):
            pass

        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app, session_options=session_options)
        self.on_send: Callable[[Any], object] = lambda signal: None
        shop = self

        class Order(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

            def send_signalbus_message(self) -> None:
                shop.on_send(self)

        class User(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)
            name = db.Column(db.Text)

        self.order: Any = Order
        self.user: Any = User
        with self.app.app_context():
            db.create_all()
            db.session.add_all([Order(id=1), Order(id=2), User(id=1, name="old")])
            db.session.commit()
            self.engine = db.engine


@pytest.fixture(params=SCOPES)
def shop(request: pytest.FixtureRequest, database_url: str) -> Iterator[Shop]:
    shop = Shop(database_url, dict(SCOPES[request.param]))
    with shop.app.app_context():
        yield shop
    shop.engine.dispose()


def test_what_caller_has_loaded_stays_and_changes_are_written(shop: Shop) -> None:
    session = shop.db.session
    user = session.get(shop.user, 1)
    before = session()
    assert shop.db.signalbus.flushmany() == 2
    assert shop.db.signalbus.pending() == {shop.order: 0}
    assert session() is before
    assert user in session
    user.name = "new"
    session.commit()
    with shop.engine.connect() as connection:
        assert connection.scalar(sa.text('SELECT name FROM "user"')) == "new"


def test_send_method_sees_session_and_transaction_of_burst(shop: Shop) -> None:
    caller = shop.db.session()
    seen: list[Any] = []

    def on_send(signal: Any) -> None:
        session = shop.db.session()
        seen.append((session is not caller, signal in session))
        with shop.app.app_context():
            # A context of its own ends as it does anywhere, and leaves the signals sent.
            shop.db.session.execute(sa.text("SELECT 1"))

    shop.on_send = on_send
    assert shop.db.signalbus.flushmany() == 2
    assert seen[0] == (True, True)
    assert all(is_own for is_own, _ in seen)


def test_looking_at_pending_signals_leaves_what_is_loaded(shop: Shop) -> None:
    user = shop.db.session.get(shop.user, 1)
    assert len(pending_signals(shop.app)) == 2
    assert user in shop.db.session


def test_the_session_of_the_caller_is_there_again_after_an_error(shop: Shop) -> None:
    caller = shop.db.session()

    def on_send(signal: Any) -> None:
        shop.db.session.remove()
        raise ValueError("on purpose")

    shop.on_send = on_send
    with pytest.raises(ValueError, match="on purpose"):
        shop.db.signalbus.flushmany()
    assert shop.db.session() is caller


def test_sessions_within_each_other_end_in_their_order(shop: Shop) -> None:
    db = shop.db
    caller = db.session()
    with own_session(db, shop.app) as outer:
        assert db.session() is outer
        with own_session(db, shop.app) as inner:
            assert db.session() is inner
        assert db.session() is outer
    assert db.session() is caller


def test_a_context_that_was_copied_in_a_burst_has_the_usual_session_after_it(shop: Shop) -> None:
    usual = shop.db.session()
    with own_session(shop.db, shop.app) as session:
        copied = copy_context()
        assert copied.run(shop.db.session) is session
    assert copied.run(shop.db.session) is copied.run(shop.db.session.registry._usual)
    assert shop.db.session() is usual


def test_threads_do_not_share_a_session_even_in_a_constant_scope(shop: Shop) -> None:
    both = threading.Barrier(2, timeout=20)
    found: list[tuple[Any, Any]] = []

    def work() -> None:
        with own_session(shop.db, shop.app) as session:
            both.wait()
            found.append((session, shop.db.session()))
            both.wait()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all(own is seen for own, seen in found)
    assert found[0][0] is not found[1][0]


def test_what_a_teardown_raises_undoes_nothing_and_is_told_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    @shop.app.teardown_appcontext
    def teardown(_error: BaseException | None) -> None:
        if raises:
            raise asyncio.CancelledError

    raises = True
    assert shop.db.signalbus.flushmany() == 2
    assert shop.db.signalbus.flushmany() == 0
    raises = False
    told = [record.getMessage() for record in caplog.records if vars(record).get("action") == "teardown_failed"]
    assert len(told) == 1
    assert "teardown_appcontext raised CancelledError" in told[0]


def test_bursts_are_no_two_phase_transactions_whatever_sessions_are(database_url: str) -> None:
    # PostgreSQL refuses PREPARE TRANSACTION as it is installed.
    shop = Shop(database_url, {})
    with shop.app.app_context():
        shop.db.session.remove()
        shop.db.session.session_factory.configure(twophase=True)
        shop.on_send = lambda signal: shop.db.session.execute(sa.select(shop.user.id))
        assert shop.db.signalbus.flushmany() == 2
        shop.db.session.rollback()
        shop.engine.dispose()


@pytest.mark.parametrize("options", [{"stream_results": True}, {"yield_per": 2}])
def test_bursts_read_rows_at_once_whatever_the_engine_is_told(database_url: str, options: dict[str, Any]) -> None:
    outbox = OutboxApp(database_url, engine={"execution_options": options})
    sent: list[int] = []
    order = outbox.model("Order", lambda one: sent.append(one.id), body=sa.Column(sa.Text), signalbus_burst_count=2)
    with sa.create_engine(database_url).begin() as connection:
        outbox.db.metadata.create_all(connection)
        connection.execute(sa.insert(order), [{"id": number} for number in range(3)])
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 3
        with autocommit(outbox.db.engine, BurstLimits()) as connection:
            [work] = find_work(connection, [outbox.spec(order)], {})
    outbox.close()
    assert sent == [0, 1, 2]
    assert not work.pending


def test_bursts_begin_by_themselves_whatever_sessions_do(database_url: str) -> None:
    shop = Shop(database_url, {})
    with shop.app.app_context():
        shop.db.session.remove()
        shop.db.session.session_factory.configure(autobegin=False)
        assert shop.db.signalbus.flushmany() == 2
        shop.db.session.remove()
        shop.engine.dispose()
