"""A message's id names one written row, for ever, everywhere; and the column that it comes from."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from relay.cli import cli
from signalbus_core import SignalBusMixin, SignalModelError, signal_id_sql
from signalbus_core.burst import failpoints
from signalbus_core.rabbitmq import Message, OutboxMessage, RabbitMQSignal
from signalbus_core.rabbitmq.message_id import identity_of, message_id
from signalbus_core.testing import FakePublisher
from tests.support.postgres import PrivatePostgres
from tests.support.standby import PrivateStandby
from tests.support.waiting import eventually


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Shop:
    """An application with one signal model, and a broker in memory.

    :param members: further members of the model.
    """

    def __init__(self, database_url: str, **members: Any) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        self.publisher = FakePublisher(self.app)
        given = {
            "__tablename__": "outbox",
            "id": db.Column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
            "signalbus_message": lambda _signal: Message("shop", "placed", b""),
            **members,
        }
        self.model: Any = type("Outbox", (RabbitMQSignal, db.Model), given)
        with self.app.app_context():
            db.create_all()

    def write(self, number: int = 1, **columns: Any) -> list[int]:
        """Write signals; return their keys."""
        with self.app.app_context():
            signals = [self.model(**columns) for _ in range(number)]
            self.db.session.add_all(signals)
            self.db.session.commit()
            return [signal.id for signal in signals]

    def execute(self, *statements: str) -> None:
        with self.app.app_context(), self.db.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def value(self, query: str) -> Any:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return connection.exec_driver_sql(query).scalar()

    def send(self, number: int = 0) -> list[Any]:
        """Send what is pending, and ``number`` new signals; return the properties of what arrived."""
        self.write(number)
        before = len(self.publisher.broker.messages)
        with self.app.app_context():
            self.db.signalbus.flushmany()
        return [message.properties for message in self.publisher.broker.messages[before:]]

    def ids(self, number: int = 0) -> list[str]:
        return [properties.message_id for properties in self.send(number)]

    def close(self) -> None:
        with self.app.app_context():
            self.db.engine.dispose()
        self.publisher.close()


MakeShop = Callable[..., Shop]


@pytest.fixture
def make() -> Iterator[MakeShop]:
    shops: list[Shop] = []

    def make(url: str, kind: str = "column", **members: Any) -> Shop:
        if kind == "time":
            moment = sa.Column(sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp())
            members |= {"signalbus_id": None, "created_at": moment}
        elif kind == "bare":
            members |= {"signalbus_id": None}
        shops.append(Shop(url, **members))
        return shops[-1]

    yield make
    failpoints.switch_on(None)
    for shop in shops:
        shop.close()


def is_uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text


# Keys that come again


@pytest.mark.parametrize("kind", ["column", "time"])
def test_keys_that_begin_anew_have_other_ids(make: MakeShop, database_url: str, kind: str) -> None:
    shop = make(database_url, kind)
    before = shop.ids(20)
    shop.execute("TRUNCATE outbox RESTART IDENTITY")
    after = shop.ids(20)
    assert len({*before, *after}) == 40


@pytest.mark.parametrize("kind", ["column", "time"])
def test_a_restored_row_keeps_its_id_and_new_ones_get_others(make: MakeShop, database_url: str, kind: str) -> None:
    shop = make(database_url, kind)
    shop.write(2)
    shop.execute("CREATE TABLE dump AS TABLE outbox")
    before = shop.ids(3)
    shop.execute(
        "TRUNCATE outbox RESTART IDENTITY",
        "INSERT INTO outbox SELECT * FROM dump",
        "SELECT setval('outbox_id_seq', 2)",
    )
    after = shop.ids(3)
    assert after[:2] == before[:2]
    assert not {*after[2:]} & {*before}


@pytest.mark.parametrize("kind", ["column", "time"])
def test_after_failover_that_lost_orders_new_ones_have_other_ids(make: MakeShop, kind: str) -> None:
    with PrivatePostgres() as primary:
        primary.start()
        shop = make(primary.url, kind)
        with PrivateStandby(primary) as standby:
            standby.start()
            # From here on it is told nothing.
            standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
            standby.execute("SELECT pg_reload_conf()")
            eventually(lambda: standby.execute("SELECT count(*) FROM pg_stat_wal_receiver")[0][0] == 0, 30)
            assert shop.write(1) == [1]
            lost = shop.ids(59)
            primary.kill9()
            standby.execute("SELECT pg_promote(wait => false)")
            eventually(lambda: standby.execute("SELECT NOT pg_is_in_recovery()")[0][0], 30)
            again = make(standby.url, kind)
            assert again.write(1) == [1]
            assert len({*lost, *again.ids(59)}) == 120


@pytest.mark.parametrize("kind", ["column", "time", "bare"])
def test_two_services_with_one_table_name_have_other_ids(
    make: MakeShop, database_url: str, other_database_url: str, kind: str
) -> None:
    ids = [make(url, kind).ids(3) for url in (database_url, other_database_url)]
    assert len({*ids[0], *ids[1]}) == 6


def test_keys_that_sqlite_gives_again_have_other_ids(make: MakeShop) -> None:
    shop = make("sqlite:///:memory:")
    keys = [shop.write(1) for _ in range(3) if shop.execute("DELETE FROM outbox") is None]
    assert keys == [[1]] * 3
    ids = shop.ids() + shop.ids(1) + shop.ids(1)
    assert len(set(ids)) == 3
    assert all(map(is_uuid, ids))


# The same on every resend


@pytest.mark.parametrize("kind", ["column", "time", "bare"])
def test_a_signal_that_is_sent_again_has_the_same_id_and_time(make: MakeShop, database_url: str, kind: str) -> None:
    shop = make(database_url, kind)
    shop.write(3)

    def cut(place: str) -> None:
        if place == "confirmed":
            raise ConnectionError("the relay loses the database")

    failpoints.switch_on(cut)
    for _ in range(2):
        with shop.app.app_context(), pytest.raises(ConnectionError):
            shop.db.signalbus.flushmany()
        # The next one has another connection, and other settings.
        shop.execute(
            f"ALTER DATABASE {sa.make_url(database_url).database} SET timezone = 'Asia/Kathmandu'",
            f"ALTER DATABASE {sa.make_url(database_url).database} SET datestyle = 'SQL, DMY'",
        )
        shop.close()
    failpoints.switch_on(None)
    shop.send()
    messages = [message.properties for message in shop.publisher.broker.messages]
    assert len(messages) == 9
    assert len({properties.message_id for properties in messages}) == 3
    if kind == "time":
        assert len({(properties.message_id, properties.timestamp) for properties in messages}) == 3


def test_the_timestamp_is_when_the_signal_was_written(make: MakeShop, database_url: str) -> None:
    shop = make(database_url, created_at=sa.Column(sa.DateTime(timezone=True)))
    moment = datetime(2026, 1, 2, 3, 4, 5, 900_000, tzinfo=timezone.utc)
    before_amqp = datetime(1960, 1, 1, tzinfo=timezone.utc)
    for given in (moment, None, before_amqp):
        shop.write(1, created_at=given)
    started = int(datetime.now(timezone.utc).timestamp())
    first, second, third = shop.send()
    assert first.timestamp == int(moment.timestamp())
    # Unknown, or nothing that AMQP can say.
    assert started <= second.timestamp <= third.timestamp


def test_ids_without_the_column_are_had_without_any_privilege(make: MakeShop, database_url: str) -> None:
    shop = make(database_url, "bare")
    name = f"bare_{uuid.uuid4().hex[:12]}"
    shop.execute(
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
        f"CREATE ROLE {name} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name}",
    )
    url = sa.make_url(database_url).set(username=name).render_as_string(hide_password=False)
    oid = shop.value("SELECT oid FROM pg_database WHERE datname = current_database()")
    app_of_bare = make(url, "bare")
    assert app_of_bare.ids(1) == [f"0.{oid}:outbox:1"]
    shop.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_the_database_is_asked_once_for_many_bursts(make: MakeShop, database_url: str) -> None:
    shop = make(database_url, "bare")
    asked: list[str] = []
    with shop.app.app_context():
        sa.event.listen(
            shop.db.engine,
            "before_cursor_execute",
            lambda _c, _cursor, statement, *_: asked.append(statement) if "pg_control_system()" in statement else None,
        )
    for _ in range(3):
        assert len(shop.ids(5)) == 5
    assert 0 < len(asked) <= 2


# The column


def test_the_id_is_made_by_the_database_whoever_writes(make: MakeShop, database_url: str) -> None:
    shop = make(database_url)
    own = uuid.uuid4()
    shop.execute(
        "INSERT INTO outbox DEFAULT VALUES",
        f"INSERT INTO outbox (signalbus_id) VALUES ('{own}')",
        "INSERT INTO outbox (signalbus_id) VALUES (NULL)",
    )
    first, second, third = shop.ids()
    assert is_uuid(first)
    assert second == str(own)
    assert third.endswith(":outbox:3")


def take_column_away(shop: Shop) -> None:
    """Make the table as it was before the model had the column, with a signal in it."""
    shop.execute("ALTER TABLE outbox DROP COLUMN signalbus_id", "INSERT INTO outbox DEFAULT VALUES")


def test_a_table_without_the_column_is_refused_with_the_recipe(make: MakeShop, database_url: str) -> None:
    shop = make(database_url)
    take_column_away(shop)
    with shop.app.app_context(), pytest.raises(SignalModelError, match="lacks signalbus_id") as raised:
        shop.db.signalbus.flushmany()
    recipe = signal_id_sql(shop.model)
    assert all(statement in str(raised.value) for statement in recipe)


def test_the_recipe_rewrites_no_row_and_can_be_run_again(make: MakeShop, database_url: str) -> None:
    shop = make(database_url)
    take_column_away(shop)
    file = shop.value("SELECT pg_relation_filenode('outbox')")
    for _ in range(2):
        shop.execute(*signal_id_sql("outbox"))
    assert shop.value("SELECT pg_relation_filenode('outbox')") == file
    old, new = shop.ids(1)
    assert old.endswith(":outbox:1")
    assert is_uuid(new)


def test_the_recipe_does_not_wait_for_long_transactions(make: MakeShop, database_url: str) -> None:
    shop = make(database_url)
    take_column_away(shop)
    printed = CliRunner().invoke(cli, ["ddl", "ids", "outbox"]).stdout
    assert "lock_timeout = '5s'" in printed
    with shop.app.app_context(), shop.db.engine.connect() as reader:
        reader.exec_driver_sql("SELECT * FROM outbox")
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            shop.execute(printed.replace("5s", "20ms"))
        # Nobody waits behind it.
        shop.execute("INSERT INTO outbox DEFAULT VALUES")
    shop.execute(printed)
    assert is_uuid(shop.ids(1)[-1])


def test_a_column_of_the_model_that_the_table_lacks_is_told(make: MakeShop, database_url: str) -> None:
    shop = make(database_url, note=sa.Column(sa.Text), plain=sa.Column("odd %(name)s", sa.Text))
    shop.execute("ALTER TABLE outbox DROP COLUMN note")
    with shop.app.app_context(), pytest.raises(SignalModelError, match="lacks note, which the model reads"):
        shop.db.signalbus.flushmany()


# The mixin in models of every shape


class Base(DeclarativeBase):
    pass


class Letter(RabbitMQSignal, Base):
    __tablename__ = "letter"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None]


class AsDataclass(RabbitMQSignal, MappedAsDataclass, Base):
    __tablename__ = "as_dataclass"
    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None] = mapped_column(default=None)


class OptedOut(RabbitMQSignal, Base):
    __tablename__ = "opted_out"
    id: Mapped[int] = mapped_column(primary_key=True)
    signalbus_id = None  # type: ignore[assignment]


class TableWithout(RabbitMQSignal, Base):
    __table__ = sa.Table("table_without", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))


class TableWith(RabbitMQSignal, Base):
    __table__ = sa.Table(
        "table_with",
        Base.metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("signalbus_id", sa.Uuid, default=uuid.uuid4),
    )


class OwnUuid(RabbitMQSignal, Base):
    __tablename__ = "own_uuid"
    id: Mapped[int] = mapped_column(primary_key=True)
    signalbus_id: Mapped[uuid.UUID] = mapped_column(default=uuid.uuid4)  # type: ignore[assignment]


class OwnKey(RabbitMQSignal, Base):
    __tablename__ = "own_key"
    signalbus_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)  # type: ignore[assignment]


class OwnNumber(RabbitMQSignal, Base):
    __tablename__ = "own_number"
    id: Mapped[int] = mapped_column(primary_key=True)
    signalbus_id: Mapped[int] = mapped_column(sa.Integer, default=7)  # type: ignore[assignment]


class OwnProperty(RabbitMQSignal, Base):
    __tablename__ = "own_property"
    id: Mapped[int] = mapped_column(primary_key=True)

    @property
    def signalbus_id(self) -> str:  # type: ignore[override]
        return "not a column"


class Abstract(RabbitMQSignal, Base):
    __abstract__ = True
    id: Mapped[int] = mapped_column(primary_key=True)


class OfAbstract(Abstract):
    __tablename__ = "of_abstract"


class Parent(RabbitMQSignal, Base):
    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "parent"}


class Child(Parent):
    __mapper_args__ = {"polymorphic_identity": "child"}


class Plain(Base):
    __tablename__ = "plain"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}


class SignalOfPlain(RabbitMQSignal, Plain):
    __mapper_args__ = {"polymorphic_identity": "signal"}


class OtherOfPlain(RabbitMQSignal, Plain):
    __mapper_args__ = {"polymorphic_identity": "other"}


class Outbox(OutboxMessage, Base):
    __tablename__ = "outbox"


SHAPES = [
    Letter,
    AsDataclass,
    TableWith,
    OwnUuid,
    OwnKey,
    OfAbstract,
    Parent,
    Child,
    SignalOfPlain,
    OtherOfPlain,
    Outbox,
]


@pytest.mark.parametrize("model", SHAPES, ids=lambda model: model.__name__)
def test_a_model_of_this_shape_has_ids_of_its_rows(model: Any) -> None:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with sa.orm.Session(engine) as session:
        given = {} if model is OwnKey else {"id": 5}
        session.add(model(**given))
        session.commit()
        signal = session.scalars(sa.select(model)).one()
        first, second = message_id(signal), message_id(signal, 2)
    assert second == f"{first}#2"
    assert is_uuid(first)


@pytest.mark.parametrize("model", [OptedOut, TableWithout, OwnNumber, OwnProperty], ids=lambda model: model.__name__)
def test_a_model_without_the_column_has_ids_made_of_its_key(model: Any) -> None:
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with sa.orm.Session(engine) as session:
        session.add(model(id=5))
        session.commit()
        signal = session.scalars(sa.select(model)).one()
        assert message_id(signal) == f"{model.__tablename__ if hasattr(model, '__tablename__') else 'table_without'}:5"
    assert not identity_of(model).has_own


def test_the_column_is_the_last_of_its_table() -> None:
    for model in (Letter, AsDataclass, OfAbstract, Outbox):
        assert [column.name for column in model.__table__.columns][-1] == "signalbus_id"


@pytest.mark.parametrize("key", [b"\x00\xff", "a:b", "é" * 300, datetime(2026, 1, 1, tzinfo=timezone.utc)])
def test_an_id_made_of_a_key_fits_and_is_unambiguous(key: Any) -> None:
    kinds: dict[type, Any] = {bytes: sa.LargeBinary, str: sa.Text, datetime: sa.DateTime(timezone=True)}
    base: Any = sa.orm.declarative_base()
    column = sa.Column(kinds[type(key)], primary_key=True)
    moment = sa.Column(sa.DateTime(timezone=True))
    members = {"__tablename__": "t", "key": column, "created_at": moment, "signalbus_id": None}
    model: Any = type("Keyed", (RabbitMQSignal, base), members)
    times = [None, datetime.max.replace(tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone.utc)]
    ids = {message_id(model(key=key, created_at=at), number) for at in times for number in (1, 2)}
    assert len(ids) == 6
    assert all(len(text.encode()) <= 255 for text in ids)
