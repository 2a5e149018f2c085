"""What applications use in their own tests: it tells the truth about the outbox, and fails loudly where it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import (
    AtomicProceduresMixin,
    PartialDeliveryError,
    SetupError,
    SignalBusMixin,
    TransactionStateError,
)
from signalbus_core.rabbitmq import Message, Publisher, RabbitMQSignal
from signalbus_core.testing import (
    FakeBroker,
    FakePublisher,
    SignalsLeftError,
    pending_signals,
    send_until_empty,
    written_signals,
)

pytest_plugins = ["signalbus_core.testing.fixtures"]


class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    pass


db = Database()


class Placed(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
    signalbus_exchange = "orders"
    signalbus_routing_key = "placed"
    id = db.Column(db.Integer, primary_key=True)
    note = sa.orm.deferred(db.Column(db.Text))

    def signalbus_message(self) -> Message:
        if self.note == "again":
            db.session.add(Placed(note="last"))
        return Message(body=f"{self.id} {self.note}")


class Shipped(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
    signalbus_exchange = "orders"
    signalbus_routing_key = "shipped"
    id = db.Column(db.Integer, primary_key=True)

    def signalbus_message(self) -> Message:
        return Message(body=str(self.id))


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db.init_app(app)
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.engine.dispose()


def place(*notes: str) -> None:
    db.session.add_all([Placed(note=note) for note in notes])
    db.session.commit()


def test_what_a_block_wrote_is_seen_and_nothing_else(app: Flask) -> None:
    place("before")
    with written_signals(app) as written:
        place("tea", "milk")
        with db.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO shipped DEFAULT VALUES"))
    assert [signal.note for signal in written.of(Placed)] == ["tea", "milk"]
    assert len(written.of(Shipped)) == 1
    assert len(written) == 3
    assert [signal.note for signal in pending_signals(app, Placed)] == ["before", "tea", "milk"]


def test_a_signal_under_the_key_of_one_that_is_gone_was_written(app: Flask) -> None:
    place("before", "stays")
    first = pending_signals(app, Placed)[0].id
    with written_signals(app) as written:
        db.session.execute(sa.delete(Placed).where(Placed.id == first))
        db.session.add(Placed(id=first, note="tea"))
        db.session.commit()
    assert [signal.note for signal in written] == ["tea"]


def test_what_was_rolled_back_was_not_written(app: Flask) -> None:
    with written_signals(app) as written:
        db.session.add(Placed(note="tea"))
        db.session.flush()
        db.session.rollback()
    assert list(written) == []


def test_a_block_that_does_not_commit_is_told_so(app: Flask) -> None:
    with pytest.raises(TransactionStateError, match="Commit"), written_signals(app):
        db.session.add(Placed(note="tea"))
    db.session.rollback()
    with pytest.raises(TransactionStateError, match="Commit"), written_signals(app):
        db.session.execute(sa.text("INSERT INTO shipped DEFAULT VALUES"))


def test_signals_can_be_read_when_everything_is_closed_and_are_not_written_back(app: Flask) -> None:
    place("tea")
    [signal] = pending_signals(app)
    db.session.remove()
    db.engine.dispose()
    signal.note = "changed"
    db.session.commit()
    assert [one.note for one in pending_signals(app)] == ["tea"]


def test_everything_is_sent_to_the_broker_in_memory(app: Flask) -> None:
    place("tea", "milk")
    written = [signal.signalbus_id for signal in pending_signals(app)]
    assert len(set(written)) == 2
    with FakePublisher().installed(app) as publisher:
        assert send_until_empty(app) == 2
    assert [message.text for message in publisher.broker.messages_to("orders", "placed")] == ["1 tea", "2 milk"]
    ids = [message.properties.message_id for message in publisher.broker.messages]
    assert ids == written
    assert pending_signals(app) == []


def test_signals_that_sending_wrote_are_sent_too(app: Flask) -> None:
    place("again")
    with FakePublisher().installed(app) as publisher:
        assert send_until_empty(app) == 2
    assert [message.text for message in publisher.broker.messages] == ["1 again", "2 last"]


def test_outside_an_application_context_it_sends_as_well(app: Flask) -> None:
    place("tea")
    sent: list[int] = []
    with FakePublisher().installed(app):
        thread = threading.Thread(target=lambda: sent.append(send_until_empty(app, Placed)))
        thread.start()
        thread.join()
    assert sent == [1]


def test_a_signal_that_is_refused_stays_and_its_error_is_raised(app: Flask) -> None:
    place("tea", "milk")
    with FakePublisher().installed(app) as publisher:
        publisher.broker.nack(routing_key="placed", times=1)
        with pytest.raises(PartialDeliveryError):
            send_until_empty(app)
        [left] = pending_signals(app)
        assert left.note == "tea"
        assert send_until_empty(app) == 1
    assert [message.text for message in publisher.broker.messages] == ["2 milk", "1 tea"]


def test_signals_that_a_transaction_holds_are_told_of(app: Flask) -> None:
    place("tea", "milk")
    with FakePublisher().installed(app), db.engine.begin() as holder:
        holder.execute(sa.text("SELECT FROM placed WHERE id = 1 FOR UPDATE"))
        with pytest.raises(SignalsLeftError, match="1 of Placed") as raised:
            send_until_empty(app)
    assert raised.value.left == {"Placed": 1}


def test_the_publisher_of_the_application_is_put_back(app: Flask) -> None:
    real = Publisher(app, url="amqp://127.0.0.1:1/")
    with FakePublisher().installed(app) as fake:
        assert app.extensions["signalbus_rabbitmq"] is fake
        assert app.extensions["signalbus_publishers"] == [fake]
    assert app.extensions["signalbus_rabbitmq"] is real
    assert app.extensions["signalbus_publishers"] == [real]


def test_what_is_told_of_a_broker_holds_as_often_as_it_says_and_the_last_word_counts() -> None:
    broker = FakeBroker()
    broker.nack(routing_key="k")
    broker.return_unroutable(exchange="x", routing_key="k", times=1)
    publisher = FakePublisher(broker=broker)
    causes = []
    for _ in range(2):
        with pytest.raises(PartialDeliveryError) as raised:
            publisher.publish_signals([1], lambda _: Message("x", "k", b""))
        causes.append(raised.value.failed[0][1].cause)
    assert causes == ["returned", "nacked"]
    broker.recover()
    publisher.publish_messages([Message("x", "k", b"")])
    assert len(broker.messages) == 1
    broker.clear()
    assert broker.messages == []
    with pytest.raises(ValueError, match="times"):
        broker.nack(times=0)


def test_unroutable_message_not_mandatory_is_taken_and_forgotten() -> None:
    publisher = FakePublisher()
    publisher.broker.nack(exchange="x")
    publisher.broker.return_unroutable(exchange="x")
    publisher.publish_messages([Message("x", "k", b"", mandatory=False), Message("y", "k", b"", mandatory=False)])
    assert [message.exchange for message in publisher.broker.messages] == ["y"]


def test_signals_with_joined_relationships_are_seen_once(database_url: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    own = Database(app)

    class Line(own.Model):  # type: ignore[name-defined,misc]
        id = own.Column(own.Integer, primary_key=True)
        order_id = own.Column(own.ForeignKey("order.id"))

    class Order(own.Model):  # type: ignore[name-defined,misc]
        id = own.Column(own.Integer, primary_key=True)
        lines = own.relationship(Line, lazy="joined")

        def send_signalbus_message(self) -> None: ...

    with app.app_context():
        own.create_all()
        with written_signals(app) as written:
            own.session.add(Order(lines=[Line(), Line()]))
            own.session.commit()
        own.engine.dispose()
    assert [len(order.lines) for order in written] == [2]


def test_an_application_without_a_bus_is_told_so() -> None:
    with pytest.raises(SetupError, match="no SignalBus"):
        pending_signals(Flask("bare"))


def test_the_fixtures_do_the_same(
    app: Flask, signalbus_broker: FakeBroker, signalbus_written: Any, signalbus_send: Any
) -> None:
    with signalbus_written() as written:
        place("tea")
    assert len(written) == 1
    assert signalbus_send() == 1
    assert [message.text for message in signalbus_broker.messages] == ["1 tea"]


# An outer transaction around the test


@pytest.fixture
def rolled_back(app: Flask) -> Iterator[None]:
    """Nothing that the test commits stays, as many applications have it."""
    engines = db._app_engines[app]
    usual = db.session
    with db.engine.connect() as connection, connection.begin() as outer:
        db._app_engines[app] = {None: connection}  # type: ignore[dict-item]
        db.session = db._make_scoped_session({"join_transaction_mode": "create_savepoint"})
        yield
        db.session.remove()
        db.session = usual
        db._app_engines[app] = engines
        outer.rollback()


def test_flushmany_within_outer_transaction_says_why_it_cannot(app: Flask, rolled_back: None) -> None:
    db.session.add(Placed(note="x"))
    for end in (lambda: None, db.session.commit):
        end()
        with pytest.raises(TransactionStateError, match=r"outer transaction.*written_signals"):
            db.signalbus.flushmany()
        with pytest.raises(TransactionStateError, match="outer transaction"):
            send_until_empty(app)
    assert db.session.scalars(sa.select(Placed.note)).all() == ["x"]


def test_written_signals_are_seen_within_an_outer_transaction(app: Flask, rolled_back: None) -> None:
    with written_signals(app) as written:
        db.session.add(Placed(note="x"))
        db.session.commit()
    assert [signal.note for signal in written.of(Placed)] == ["x"]
