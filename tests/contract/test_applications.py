"""What an application may use Signalbus with: the same facts about each way to use SQLAlchemy."""

from __future__ import annotations

import select
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from relay.application.load import LoadedApp, find_broker
from relay.application.metadata import load_metadata
from relay.application.outbox_tables.build import load_tables
from relay.application.outbox_tables.names import TableName
from relay.application.outbox_tables.rules import TableRules
from signalbus_core import ScheduledSignal
from signalbus_core.rabbitmq import OutboxMessage, RabbitMQSignal
from signalbus_core.schema.doorbell import SLEEP_LOCK, channel_of
from tests.support.broker import Broker

from .applications.kinds import KINDS, Application, Work, received


class World:
    """An application with its tables, and a queue for what it sends."""

    def __init__(self, application: Application, database_url: str, broker: Broker) -> None:
        self.application, self.database_url, self.broker = application, database_url, broker
        self.exchange = broker.exchange()
        self.queue = broker.queue(self.exchange)
        self.engine = sa.create_engine(database_url)
        application.create_all()

    def placing(self, item: str = "tea") -> Work:
        """An order, a row of the outbox table, and a signal, in one transaction."""
        models = self.application.models

        def place(session: Session) -> str:
            order = models.Order(item=item)
            session.add(order)
            session.flush()
            message = models.Outbox(exchange=self.exchange, routing_key="row", body_json={"item": item, "id": order.id})
            session.add_all([message, models.OrderPlaced(exchange=self.exchange)])
            session.flush()
            return str(message.signalbus_id)

        return place

    def count(self, *tables: str) -> list[int]:
        with self.engine.connect() as connection:
            return [int(connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0) for table in tables]

    def send(self, loaded: LoadedApp) -> list[tuple[str, str, str]]:
        find_broker(loaded, self.broker.url)
        with loaded.app.app_context():
            loaded.bus.flushmany()
        for engine in loaded.engines().values():
            engine.dispose()
        messages = self.broker.take_all(self.queue)
        return sorted((one.routing_key, one.text, str(one.properties.message_id)) for one in messages)


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest, database_url: str, broker: Broker) -> Iterator[World]:
    world = World(KINDS[request.param](database_url), database_url, broker)
    yield world
    world.engine.dispose()


def loaded_by_models(world: World) -> LoadedApp:
    if (app := getattr(world.application, "app", None)) and "signalbus" in app.extensions:
        assert isinstance(app, Flask)
        return LoadedApp(app, app.extensions["signalbus"])
    return load_metadata(f"{world.application.models.__name__}:Base", (), world.database_url, 2)


def loaded_by_table(world: World) -> LoadedApp:
    return load_tables(world.database_url, [TableRules(TableName(None, "outbox"), {})], 2)


def test_signals_are_committed_with_the_order_or_rolled_back(world: World) -> None:
    tables = ("orders", "outbox", "order_placed")
    world.application.in_transaction(world.placing(), commit=False)
    assert world.count(*tables) == [0, 0, 0]
    world.application.in_transaction(world.placing())
    assert world.count(*tables) == [1, 1, 1]


def test_the_id_of_a_row_is_set_as_it_is_written(world: World) -> None:
    given = world.application.in_transaction(world.placing())
    assert str(uuid.UUID(given)) == given
    with world.engine.connect() as connection:
        assert str(connection.scalar(sa.text("SELECT signalbus_id FROM outbox"))) == given


@pytest.mark.parametrize("load", [loaded_by_models, loaded_by_table])
def test_the_relay_sends_what_was_written(world: World, load: Any) -> None:
    given = world.application.in_transaction(world.placing("cake"))
    sent = world.send(load(world))
    assert ("row", '{"id": 1, "item": "cake"}', given) in sent
    is_table = load is loaded_by_table
    assert [key for key, _, _ in sent] == (["row"] if is_table else ["row", "signal"])
    assert world.count("outbox", "order_placed") == [0, 1 if is_table else 0]


def test_create_all_makes_doorbells_and_the_tables_of_signalbus(world: World) -> None:
    inspector = sa.inspect(world.engine)
    assert {"signalbus_parked", "signalbus_paused", "signalbus_inbox"} <= {*inspector.get_table_names()}
    with world.engine.connect() as connection:
        found = connection.scalars(
            sa.text("SELECT CAST(tgrelid::regclass AS text) FROM pg_trigger WHERE tgname = 'signalbus_doorbell'")
        )
        assert {"outbox", "order_placed"} <= {*found}


def test_a_commit_rings_the_doorbell_of_a_relay_that_sleeps(world: World) -> None:
    relay = psycopg2.connect(world.database_url.replace("+psycopg2", ""))
    relay.autocommit = True
    with relay.cursor() as cursor:
        cursor.execute("SELECT CAST(CAST('outbox' AS regclass) AS oid)::bigint")
        [oid] = cursor.fetchone() or [None]
        cursor.execute(f"LISTEN {channel_of(oid)}; SELECT pg_advisory_lock({SLEEP_LOCK}, {oid})")
        world.application.in_transaction(world.placing(), commit=False)
        assert select.select([relay], [], [], 0) == ([], [], [])
        world.application.in_transaction(world.placing())
        assert select.select([relay], [], [], 30)[0]
        relay.poll()
        assert [one.channel for one in relay.notifies] == [channel_of(oid)]
    relay.close()


def test_the_inbox_knows_a_message_once_its_work_is_committed(world: World) -> None:
    application = world.application
    assert application.in_transaction(received("m-1"), commit=False) is True
    assert application.in_transaction(received("m-1")) is True
    assert application.in_transaction(received("m-1")) is False


def test_models_that_are_dataclasses_have_the_columns_of_mixins_to_be_assigned() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    class Outbox(ScheduledSignal, OutboxMessage, Base):
        __tablename__ = "outbox"

    class OrderPlaced(RabbitMQSignal, Base):
        __tablename__ = "order_placed"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        item: Mapped[str]

    with pytest.raises(TypeError, match="routing_key"):
        Outbox(routing_key="a")  # type: ignore[call-arg]
    message = Outbox()
    message.routing_key, message.body_json = "a", {"order_id": 1}
    message.signalbus_send_after = datetime(2030, 1, 1, tzinfo=timezone.utc)
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine, [Outbox.__table__, OrderPlaced.__table__])
    with Session(engine) as session:
        session.add_all([message, OrderPlaced(item="tea")])
        session.commit()
        assert session.scalars(sa.select(Outbox.routing_key)).all() == ["a"]
        assert session.scalars(sa.select(OrderPlaced.item)).all() == ["tea"]
    engine.dispose()
