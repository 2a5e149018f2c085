"""SignalBus: finding models, flushmany, pending; against a real PostgreSQL."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects.postgresql import ENUM

from signalbus_core import (
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalBus,
    SignalModelError,
    TransactionStateError,
    UnreadableSignalError,
    get_models_to_flush,
)
from signalbus_core.lowlevel import table_problem
from tests.support.outbox_app import OutboxApp


class Shop:
    """An application with several signal models that record what they send."""

    def __init__(self, database_url: str, other_url: str) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.app.config["SQLALCHEMY_BINDS"] = {"other": other_url}
        self.db = db = SQLAlchemy(self.app)
        self.bus = SignalBus(db)
        self.sent: list[tuple[str, Any]] = []
        shop = self

        class Recorded(db.Model):  # type: ignore[name-defined,misc]
            __abstract__ = True

            def send_signalbus_message(self) -> None:
                shop.sent.append((type(self).__name__, sa.inspect(self).identity))

        class Apple(Recorded):
            id = db.Column(db.Integer, primary_key=True)

        class Bicycle(Recorded):
            first = db.Column(db.Integer, primary_key=True)
            second = db.Column(db.Text, primary_key=True)
            signalbus_burst_count = 3

        class Cup(Recorded):
            id = db.Column(db.Uuid, primary_key=True, default=uuid.uuid4)
            signalbus_burst_count = 2

        class Dish(Recorded):
            __bind_key__ = "other"
            name = db.Column(db.CHAR(10), primary_key=True)

        class Egg(Recorded):
            size = db.Column(ENUM("small", "large", name="egg_size"), primary_key=True)

        class Plain(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

        self.models = SimpleNamespace(apple=Apple, bicycle=Bicycle, cup=Cup, dish=Dish, egg=Egg, plain=Plain)
        self.recorded: Any = Recorded
        with self.app.app_context():
            db.create_all()

    def close(self) -> None:
        with self.app.app_context():
            for engine in self.db.engines.values():
                engine.dispose()


@pytest.fixture
def shop(database_url: str, other_database_url: str) -> Iterator[Any]:
    shop = Shop(database_url, other_database_url)
    with shop.app.app_context():
        yield shop
    shop.close()


@pytest.fixture
def session(shop: Any) -> Any:
    return shop.db.session


def test_signal_models_are_the_mapped_classes_with_a_send_method_sorted_by_name(shop: Any) -> None:
    models = shop.models
    assert shop.bus.get_signal_models() == [models.apple, models.bicycle, models.cup, models.dish, models.egg]


def test_flushmany_sends_all_pending_signals_of_all_models_and_counts_them(shop: Any, session: Any) -> None:
    models = shop.models
    key = uuid.uuid4()
    session.add_all([models.apple(id=number) for number in (2, 1)])
    session.add_all([models.bicycle(first=1, second=letter) for letter in "abcd"])
    session.add_all([models.cup(id=key), models.dish(name="plate"), models.egg(size="small")])
    session.commit()

    assert shop.bus.flushmany() == 9

    assert [sent for sent in shop.sent if sent[0] == "Apple"] == [("Apple", (1,)), ("Apple", (2,))]
    assert ("Cup", (key,)) in shop.sent
    assert ("Egg", ("small",)) in shop.sent
    assert len(shop.sent) == 9
    assert sum(shop.bus.pending().values()) == 0


def test_flush_is_the_older_name_of_flushmany(shop: Any, session: Any) -> None:
    session.add(shop.models.apple(id=1))
    session.commit()
    assert shop.bus.flush([shop.models.apple]) == 1


def test_flushmany_tells_of_signals_that_cannot_be_loaded_after_the_other_models_were_sent(
    shop: Any, session: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Appointment(shop.recorded):  # type: ignore[misc]
        id = shop.db.Column(shop.db.Integer, primary_key=True)
        at = shop.db.Column(shop.db.DateTime(timezone=True))

    shop.db.create_all()
    session.execute(sa.text("INSERT INTO appointment VALUES (1, '20000-01-01'), (2, '2026-01-01'), (3, '20001-01-01')"))
    session.add(shop.models.cup())
    session.commit()

    with pytest.raises(UnreadableSignalError, match="2 signals of Appointment cannot be sent") as raised:
        shop.bus.flushmany()

    assert raised.value.keys == [(1,), (3,)]
    assert "2000" not in f"{raised.value} {caplog.text}"
    assert sorted(model for model, _ in shop.sent) == ["Appointment", "Cup"]
    assert shop.bus.pending([Appointment]) == {Appointment: 2}


def test_flushmany_sends_only_the_given_models(shop: Any, session: Any) -> None:
    session.add_all([shop.models.apple(id=1), shop.models.cup()])
    session.commit()
    assert shop.bus.flushmany([shop.models.apple]) == 1
    assert shop.bus.pending([shop.models.cup]) == {shop.models.cup: 1}


def test_pending_stops_counting_at_its_limit(shop: Any, session: Any) -> None:
    session.add_all([shop.models.apple(id=number) for number in range(5)])
    session.commit()
    assert shop.bus.pending([shop.models.apple]) == {shop.models.apple: 5}
    assert shop.bus.pending([shop.models.apple], limit=3) == {shop.models.apple: 3}


def test_flushmany_leaves_the_session_of_the_caller_alone(shop: Any, session: Any) -> None:
    session.add(shop.models.apple(id=1))
    session.commit()
    plain = shop.models.plain(id=1)
    session.add(plain)
    session.commit()
    assert session.get(shop.models.plain, 1) is plain
    before = session().get_transaction()
    assert shop.bus.flushmany() == 1
    assert plain in session
    assert session().get_transaction() is before


@pytest.mark.parametrize("flushed", [False, True])
def test_flushmany_with_uncommitted_changes_is_refused_and_touches_nothing(
    shop: Any, session: Any, flushed: bool
) -> None:
    session.add(shop.models.apple(id=1))
    session.commit()
    session.add(shop.models.apple(id=2))
    if flushed:
        session.flush()
    with pytest.raises(TransactionStateError, match="uncommitted"):
        shop.bus.flushmany()
    assert shop.sent == []
    session.commit()
    assert shop.bus.flushmany() == 2


def test_flushmany_after_a_bulk_statement_in_the_open_transaction_is_refused(shop: Any, session: Any) -> None:
    session.execute(sa.insert(shop.models.apple).values(id=1))
    with pytest.raises(TransactionStateError):
        shop.bus.flushmany()


def test_flushmany_in_a_broken_transaction_is_refused(shop: Any, session: Any) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        session.execute(sa.text("SELECT 1/0"))
    with pytest.raises(TransactionStateError, match="broken"):
        shop.bus.flushmany()


def test_flushmany_after_mere_reading_is_allowed(shop: Any, session: Any) -> None:
    session.add(shop.models.apple(id=1))
    session.commit()
    assert session.scalar(sa.select(sa.func.count()).select_from(shop.models.apple)) == 1
    assert shop.bus.flushmany() == 1


def test_failing_model_keeps_no_other_and_error_comes_at_end(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ValueError("apples are out")

    def refuse(_signal: Any) -> None:
        raise error

    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", refuse)
    session.add_all([shop.models.apple(id=1), shop.models.cup()])
    session.commit()
    with pytest.raises(ValueError, match="apples are out"):
        shop.bus.flushmany()
    assert shop.bus.pending() == {model: int(model is shop.models.apple) for model in shop.bus.get_signal_models()}


def test_one_bad_signal_does_not_keep_the_others_of_its_model(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def send_many(_model: Any, signals: list[Any]) -> None:
        if any(signal.id == 13 for signal in signals):
            raise ValueError("unlucky")
        sent.extend(signal.id for signal in signals)

    def send_one(signal: Any) -> None:
        send_many(None, [signal])

    monkeypatch.setattr(shop.models.apple, "signalbus_burst_count", 16, raising=False)
    monkeypatch.setattr(shop.models.apple, "send_signalbus_messages", classmethod(send_many), raising=False)
    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", send_one)
    session.add_all([shop.models.apple(id=number) for number in range(40)])
    session.commit()
    with pytest.raises(ValueError, match="unlucky"):
        shop.bus.flushmany()
    assert sorted(sent) == [number for number in range(40) if number != 13]
    assert shop.bus.pending([shop.models.apple]) == {shop.models.apple: 1}


def test_refused_signals_are_passed_over_and_reported(shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def send(signal: Any) -> None:
        if signal.id % 2:
            raise PartialDeliveryError([], [(signal, Outcome(OutcomeKind.REFUSED, "no route", cause="returned"))])

    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", send)
    session.add_all([shop.models.apple(id=number) for number in range(30)])
    session.commit()
    with pytest.raises(PartialDeliveryError):
        shop.bus.flushmany()
    assert shop.bus.pending([shop.models.apple]) == {shop.models.apple: 15}


def test_without_an_answer_from_the_broker_a_model_is_tried_once(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def send(signal: Any) -> None:
        tries.append(signal.id)
        raise PartialDeliveryError([], [(signal, Outcome(OutcomeKind.UNKNOWN, "no answer"))])

    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", send)
    session.add_all([shop.models.apple(id=number) for number in range(30)])
    session.commit()
    with pytest.raises(PartialDeliveryError):
        shop.bus.flushmany()
    assert tries == [0]


def send_with(kind: str, sent: list[int]) -> dict[str, Any]:
    """Send methods that fail for the signal with key 0, each in its own way."""

    def error(signals: list[Any]) -> Exception:
        invalid = Outcome(OutcomeKind.INVALID, "bad")
        match kind.removesuffix(" many"):
            case "raise":
                return ValueError("bad")
            case "publish":
                return PublishError([invalid if signal.id == 0 else Outcome(OutcomeKind.ACKED) for signal in signals])
            case "silent about it":
                return PartialDeliveryError([], [])
            case _:
                good = [signal for signal in signals if signal.id]
                sent.extend(signal.id for signal in good)
                return PartialDeliveryError(good, [(signal, invalid) for signal in signals if not signal.id])

    def send(signals: list[Any]) -> None:
        if any(signal.id == 0 for signal in signals):
            raise error(signals)
        sent.extend(signal.id for signal in signals)

    one = {"send_signalbus_message": lambda signal: send([signal])}
    many = {"send_signalbus_messages": classmethod(lambda _model, signals: send(signals))}
    return one | many if kind.endswith(" many") else one


@pytest.mark.parametrize("burst_count", [1, 3, 10, 50])
@pytest.mark.parametrize("many", ["", " many"])
@pytest.mark.parametrize("kind", ["raise", "publish", "partial", "silent about it"])
def test_one_bad_signal_of_ten_keeps_no_other_one(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch, kind: str, many: str, burst_count: int
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(shop.models.apple, "signalbus_burst_count", burst_count, raising=False)
    for name, method in send_with(kind + many, sent).items():
        monkeypatch.setattr(shop.models.apple, name, method, raising=False)
    session.add_all([shop.models.apple(id=number) for number in range(10)])
    session.commit()
    with pytest.raises((ValueError, PublishError, PartialDeliveryError)):
        shop.bus.flushmany([shop.models.apple])
    assert sorted(sent) == list(range(1, 10))
    assert shop.bus.pending([shop.models.apple]) == {shop.models.apple: 1}


def test_an_outage_ends_the_sending_of_one_after_the_other(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def send(signal: Any) -> None:
        tries.append(signal.id)
        if signal.id == 3:
            raise ConnectionRefusedError

    monkeypatch.setattr(shop.models.apple, "signalbus_burst_count", 10, raising=False)
    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", send)
    session.add_all([shop.models.apple(id=number) for number in range(10)])
    session.commit()
    with pytest.raises(PartialDeliveryError):
        shop.bus.flushmany([shop.models.apple])
    assert tries == [0, 1, 2, 3]


@pytest.mark.parametrize("as_classmethod", [False, True])
def test_the_send_method_is_an_instance_method_or_a_classmethod_that_takes_the_instance(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch, as_classmethod: bool
) -> None:
    sent: list[int] = []
    if as_classmethod:
        method: Any = classmethod(lambda _cls, signal: sent.append(signal.id))
    else:
        method = lambda signal: sent.append(signal.id)  # noqa: E731
    monkeypatch.setattr(shop.models.apple, "send_signalbus_message", method)
    session.add(shop.models.apple(id=5))
    session.commit()
    shop.bus.flushmany()
    assert sent == [5]


def test_many_signals_use_method_for_many_and_one_goes_alone(
    shop: Any, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def send_many(_model: Any, signals: list[Any]) -> None:
        calls.append(len(signals))

    monkeypatch.setattr(shop.models.bicycle, "send_signalbus_messages", classmethod(send_many), raising=False)
    session.add_all([shop.models.bicycle(first=1, second=letter) for letter in "abcd"])
    session.commit()
    assert shop.bus.flushmany() == 4
    assert calls == [3]
    assert shop.sent == [("Bicycle", (1, "d"))]


@pytest.mark.parametrize("burst_count", [0, -1, "10", 2.5, True, None])
def test_a_burst_count_that_is_no_positive_int_is_refused(
    shop: Any, monkeypatch: pytest.MonkeyPatch, burst_count: object
) -> None:
    monkeypatch.setattr(shop.models.apple, "signalbus_burst_count", burst_count, raising=False)
    with pytest.raises(SignalModelError, match="signalbus_burst_count"):
        shop.bus.flushmany()


def test_no_signal_model_is_refused_before_anything_is_sent(shop: Any, session: Any) -> None:
    session.add(shop.models.apple(id=1))
    session.commit()
    for wrong in (shop.models.plain, shop.recorded, int, "Apple", None):
        with pytest.raises(SignalModelError, match="is not a signal model"):
            shop.bus.flushmany([shop.models.apple, wrong])
    with pytest.raises(SignalModelError, match="as a list"):
        shop.bus.flushmany(shop.models.apple)
    assert shop.sent == []


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (["DROP TABLE apple"], "does not exist"),
        (["DROP TABLE apple", "CREATE VIEW apple AS SELECT 1 AS id"], "is a view"),
        (["ALTER TABLE apple DROP CONSTRAINT apple_pkey"], "no primary key"),
        (
            ["ALTER TABLE apple DROP CONSTRAINT apple_pkey", "CREATE UNIQUE INDEX ON apple (id) WHERE id > 0"],
            "no primary key",
        ),
    ],
)
def test_a_table_that_cannot_serve_as_an_outbox_is_refused_and_the_others_are_sent(
    shop: Any, session: Any, statements: list[str], problem: str
) -> None:
    session.add_all([shop.models.apple(id=1), shop.models.cup()])
    session.flush()
    for statement in statements:
        session.execute(sa.text(statement))
    session.commit()
    with pytest.raises(SignalModelError, match=problem):
        shop.bus.flushmany()
    assert [name for name, _ in shop.sent] == ["Cup"]


def test_a_unique_index_over_the_key_is_as_good_as_a_primary_key(shop: Any, session: Any) -> None:
    session.add(shop.models.apple(id=1))
    session.execute(sa.text("ALTER TABLE apple DROP CONSTRAINT apple_pkey"))
    session.execute(sa.text("ALTER TABLE apple ALTER id SET NOT NULL"))
    session.execute(sa.text("CREATE UNIQUE INDEX ON apple (id)"))
    session.commit()
    assert shop.bus.flushmany() == 1


def test_a_partitioned_table_serves_as_an_outbox(shop: Any, session: Any) -> None:
    session.execute(sa.text("DROP TABLE apple"))
    session.execute(sa.text("CREATE TABLE apple (id int PRIMARY KEY) PARTITION BY RANGE (id)"))
    session.execute(sa.text("CREATE TABLE apple_1 PARTITION OF apple FOR VALUES FROM (0) TO (10)"))
    session.execute(sa.text("CREATE TABLE apple_2 PARTITION OF apple FOR VALUES FROM (10) TO (20)"))
    session.add_all([shop.models.apple(id=number) for number in (5, 15)])
    session.commit()
    assert shop.bus.flushmany() == 2


def test_models_of_one_class_name_are_both_listed_and_told_apart_by_module(shop: Any) -> None:
    twin = type(
        "Apple",
        (shop.recorded,),
        {
            "__module__": "other.place",
            "__tablename__": "other_apple",
            "id": shop.db.Column(sa.Integer, primary_key=True),
        },
    )
    names = [spec.name for spec in shop.bus.specs()]
    assert twin in shop.bus.get_signal_models()
    assert "other.place.Apple" in names
    assert len(set(names)) == len(names)


def test_joined_table_inheritance_is_refused_with_the_reason(shop: Any) -> None:
    class Special(shop.models.apple):  # type: ignore[name-defined,misc]
        __tablename__ = "special"
        id = shop.db.Column(sa.ForeignKey("apple.id"), primary_key=True)

    for model in (Special, shop.models.apple):
        with pytest.raises(SignalModelError, match="joined-table inheritance"):
            shop.bus.flushmany([model])


def test_single_table_inheritance_is_sent_through_the_parent(shop: Any, session: Any) -> None:
    class Letter(shop.recorded):  # type: ignore[name-defined,misc]
        id = shop.db.Column(sa.Integer, primary_key=True)
        kind = shop.db.Column(sa.Text)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

    class Postcard(Letter):
        __mapper_args__ = {"polymorphic_identity": "postcard"}

    Letter.__table__.create(shop.db.engine)
    session.add_all([Letter(id=1), Postcard(id=2)])
    session.commit()
    assert Postcard not in shop.bus.get_signal_models()
    assert shop.bus.flushmany() == 2
    assert shop.sent == [("Letter", (1,)), ("Postcard", (2,))]


@pytest.mark.parametrize("lazy", ["joined", "selectin", "raise", "dynamic", "write_only"])
def test_relationships_of_any_loading_kind_do_not_disturb_burst(shop: Any, session: Any, lazy: Any) -> None:
    class Parcel(shop.recorded):  # type: ignore[name-defined,misc]
        id = shop.db.Column(sa.Integer, primary_key=True)
        labels = shop.db.relationship("Label", lazy=lazy, passive_deletes=True)

    class Label(shop.db.Model):  # type: ignore[name-defined,misc]
        id = shop.db.Column(sa.Integer, primary_key=True)
        parcel_id = shop.db.Column(sa.ForeignKey("parcel.id", ondelete="CASCADE"))

    shop.db.create_all()
    session.add(Parcel(id=1))
    session.flush()
    session.add(Label(id=1, parcel_id=1))
    session.commit()
    assert shop.bus.flushmany([Parcel]) == 1


def test_names_choose_models_and_a_wrong_name_is_a_warning(shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    models = get_models_to_flush(shop.bus, ["Cup", "Nonsense", "Apple", "Cup"])
    assert models == [shop.models.apple, shop.models.cup]
    assert "Nonsense" in caplog.text
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_no_names_choose_all_models(shop: Any) -> None:
    assert get_models_to_flush(shop.bus, []) == shop.bus.get_signal_models()


@pytest.mark.parametrize(("schema", "is_refused"), [(None, True), ("elsewhere", False)])
def test_a_table_whose_schema_is_translated_is_refused(database_url: str, schema: str | None, is_refused: bool) -> None:
    app = OutboxApp(database_url, engine={"execution_options": {"schema_translate_map": {schema: "tenant"}}})
    model = app.model("Order")
    app.execute("CREATE SCHEMA tenant")
    app.create()
    # There is one of the same name where the catalog would be asked.
    app.execute('CREATE TABLE IF NOT EXISTS "order" (id bigint PRIMARY KEY)')
    app.write(model, 1)
    with app.app.app_context():
        if is_refused:
            with pytest.raises(SignalModelError, match=r"schema 'tenant' by schema_translate_map.*search_path"):
                app.db.signalbus.flushmany()
        else:
            assert app.db.signalbus.flushmany() == 1
        with app.db.engine.connect() as connection:
            assert (table_problem(connection, app.spec(model)) is not None) == is_refused
    app.close()
