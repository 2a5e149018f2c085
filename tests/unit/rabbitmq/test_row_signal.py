"""A row gives the same frames as its instance, or is refused for the same reason; and which models are sent as rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika.spec import BasicProperties
from sqlalchemy import event
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Session, column_property, synonym

from signalbus_core.failures import error_text
from signalbus_core.model.contract import resolve
from signalbus_core.rabbitmq import HEADERS_TEXT, InvalidMessageError, Message, OutboxMessage, RowSignal
from signalbus_core.rabbitmq import signal as signal_module
from signalbus_core.rabbitmq.amqp import encoder as encoder_module
from signalbus_core.rabbitmq.amqp.encoder import Encoder
from signalbus_core.rabbitmq.amqp.frames import EncodedMessage
from signalbus_core.rabbitmq.rows.row_messages import RowMessages, RowPlan
from signalbus_core.rabbitmq.signal import SignalMessages
from signalbus_core.sql.lock_rows import row_sender
from signalbus_core.tracing import TracedSignal
from tests.support.fuzzing import FACTOR
from tests.unit.rabbitmq.test_encoder import messages

#: The rows of a test are from no database that has an identity.
CONNECTION: Any = SimpleNamespace(dialect=SimpleNamespace(name="sqlite"))
END, BEGINNING = (datetime.max.replace(tzinfo=timezone.utc), datetime.min.replace(tzinfo=timezone.utc))
NOON = datetime(2026, 11, 25, 12, 0, 0, 999_999, tzinfo=timezone.utc)


class Base(DeclarativeBase):
    pass


class Outbox(OutboxMessage, Base):
    __tablename__ = "outbox"
    signalbus_exchange = "usual"
    signalbus_routing_key = "usual.key"


class Bare(RowSignal, Base):
    """An existing table: a key of two columns, no id of its own, and headers in several columns."""

    __tablename__ = "bare table"
    signalbus_exchange = "orders"
    signalbus_id = None
    signalbus_created_at = "written"
    signalbus_fields = {
        "routing_key": "kind",
        "body_text": "payload",
        "body_json": "document",
        HEADERS_TEXT: "meta",
        "headers.tenant": "tenant",
        "headers.shard": "shard",
    }
    part = sa.Column(sa.Text, primary_key=True)
    number = sa.Column(sa.BigInteger, primary_key=True)
    kind = sa.Column(sa.Text)
    payload = sa.Column(sa.Text)
    document = sa.Column(sa.Text)
    meta = sa.Column(sa.Text)
    tenant = sa.Column(sa.Text)
    shard = sa.Column(sa.BigInteger)
    written = sa.Column(sa.DateTime(timezone=True))


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(signal_module, "time", SimpleNamespace(time=lambda: 1_700_000_000.5))
    return None


def plan_of(model: Any) -> RowPlan:
    found = model.signalbus_row_sender()
    assert isinstance(found, RowPlan)
    return found


def fate(encode_it: Any) -> EncodedMessage | str:
    try:
        return encode_it()  # type: ignore[no-any-return]
    except Exception as error:
        return (str(error) if isinstance(error, InvalidMessageError) else error_text(error)).removeprefix(
            "InvalidMessageError: "
        )


def of_instance(encoder: Encoder, model: Any, values: dict[str, Any]) -> EncodedMessage | str:
    """What the messages of an instance are, made as objects first."""
    signal = model()
    for name, value in values.items():
        setattr(signal, name, value)
    return fate(lambda: encoder.encode(*SignalMessages()(signal)))


def of_row(encoder: Encoder, model: Any, values: dict[str, Any]) -> EncodedMessage | str:
    plan = plan_of(model)
    row = tuple(values.get(name) for name in plan.columns)
    return fate(lambda: RowMessages(plan, CONNECTION).encoding(encoder)(row))


texts = st.none() | st.text(max_size=12) | st.sampled_from(["é" * 127, "é" * 128, "a" * 256, "\ud800", "guest"])
odd = st.sampled_from([True, False, 1.0, b"x", (), "", -1, 2**64])
moments = st.none() | st.datetimes(timezones=st.just(timezone.utc)) | st.datetimes() | odd
moments |= st.sampled_from([END, END.replace(tzinfo=None), BEGINNING, BEGINNING.replace(tzinfo=None), NOON])
moments |= st.just(datetime(1969, 12, 31, 23, 59, 59, 900_000, tzinfo=timezone(timedelta(hours=-3))))
json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
tables = st.dictionaries(st.text(max_size=5) | st.sampled_from(["CC", "x" * 256]), json_values, max_size=3)
numbers = st.none() | st.integers(-1, 300) | odd
bodies = st.none() | st.binary(max_size=20) | st.integers(4080, 9000).map(bytes)

outbox_rows = st.fixed_dictionaries(
    {"id": st.integers(0, 9), "signalbus_id": st.none() | st.uuids().map(str) | st.text(max_size=300)},
    optional={
        **dict.fromkeys(("exchange", "routing_key", "body_text", "content_type", "content_encoding"), texts),
        **dict.fromkeys(("message_type", "message_id", "correlation_id", "reply_to", "app_id", "user_id"), texts),
        "body": bodies | odd,
        "body_json_text": st.none() | json_values.map(json.dumps),
        "headers": st.none() | tables | tables.map(str) | st.just([1]) | odd,
        "expiration": st.none() | st.sampled_from([0, 60_000, -1, 2**63 - 1, "60000"]) | odd,
        "priority": numbers,
        "delivery_mode": numbers,
        "timestamp": moments,
        "created_at": moments,
    },
)
bare_rows = st.fixed_dictionaries(
    {"part": st.text(max_size=9), "number": st.integers(0, 9)},
    optional={
        **dict.fromkeys(("kind", "payload", "tenant"), texts),
        "document": st.none() | json_values.map(json.dumps),
        "meta": st.none() | tables.map(json.dumps) | st.sampled_from(["", "[1]", "1", "{", "NaN", "null", "[" * 3000]),
        "shard": st.none() | st.integers(-(2**63), 2**63 - 1),
        "written": st.none() | st.datetimes(timezones=st.just(timezone.utc)) | st.just(NOON.replace(tzinfo=None)),
    },
)
examples = st.tuples(st.just(Outbox), outbox_rows) | st.tuples(st.just(Bare), bare_rows)


@settings(max_examples=100 * FACTOR, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(examples, min_size=1, max_size=4))
def test_a_row_gives_the_frames_of_its_instance_or_its_reason(burst: list[tuple[Any, dict[str, Any]]]) -> None:
    encoder = Encoder(3, 4096, "guest")
    # Twice: the second time, what rows have in common is known.
    for model, values in [*burst, *burst]:
        assert of_row(encoder, model, values) == of_instance(Encoder(3, 4096, "guest"), model, values)


USUAL: dict[str, Any] = {
    "id": 5,
    "signalbus_id": "a5a5a5a5-0000-4000-8000-000000000001",
    "exchange": "orders",
    "routing_key": "order.placed",
    "body_text": "té",
    "headers": {"traceparent": "00"},
    "expiration": 60_000,
    "priority": 3,
    "correlation_id": "c",
    "timestamp": NOON,
    "created_at": NOON,
}


@pytest.mark.parametrize("name", [None, *USUAL])
def test_usual_rows_become_no_objects(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    values = {**USUAL, name: None} if name not in (None, "id") else USUAL
    encoder = Encoder(3, 4096, "guest")
    expected = of_row(encoder, Outbox, values)
    assert expected == of_instance(encoder, Outbox, values)
    monkeypatch.setattr(RowMessages, "message", None)
    monkeypatch.setattr(encoder_module, "encode", None)
    assert of_row(encoder, Outbox, values) == expected


def is_sent_as_rows(model: Any) -> bool:
    return row_sender(Session(), resolve(model)) is not None


@pytest.mark.parametrize("priority", [True, 1.0])
def test_equal_values_of_other_types_are_not_what_is_known(priority: object) -> None:
    encoder, values = Encoder(3, 4096, "guest"), {**USUAL, "priority": 1}
    assert isinstance(of_row(encoder, Outbox, values), EncodedMessage)
    odd_values = {**values, "priority": priority}
    assert of_row(encoder, Outbox, odd_values) == of_instance(Encoder(3, 4096, "guest"), Outbox, odd_values)


class Shown(sa.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True


def own_message(self: Any) -> Message:
    return Message("x", "y", b"")


NEEDS_INSTANCES: dict[str, dict[str, Any]] = {
    "a message of its own": {"signalbus_message": own_message},
    "a send method of its own": {"send_signalbus_message": lambda self: None},
    "a send method for many": {"send_signalbus_messages": classmethod(lambda cls, instances: None)},
    "a field that is computed": {"routing_key": property(lambda self: f"order.{self.id}")},
    "a field that is a constant": {"content_type": "text/csv"},
    "a field that is another attribute": {"routing_key": synonym("exchange")},
    "an exchange that is computed": {"signalbus_exchange": property(lambda self: "orders")},
    "a type that converts": {"exchange": sa.Column(Shown)},
    "a type that converts on one database": {"exchange": sa.Column(sa.Text().with_variant(Shown(), "postgresql"))},
    "rows of several classes": {"kind": sa.Column(sa.Text), "__mapper_args__": {"polymorphic_on": "kind"}},
    "a JSON body that is computed": {"body_json": property(lambda self: {"id": self.id})},
    "a JSON body that is another attribute": {"body_json": synonym("headers")},
    "a JSON body whose text is another": {"body_json_text": column_property(sa.literal("1"))},
    "attributes that are computed": {"__getattr__": lambda self, name: None},
    "fields that are computed": {"signalbus_fields": property(lambda self: {})},
    "an id that is computed": {"message_id": column_property(sa.literal_column("gen_random_uuid()"))},
    "a value of another table": {
        "routing_key": column_property(sa.select(sa.func.max(sa.column("x"))).scalar_subquery())
    },
    "a trace that is computed": {"trace_context": property(lambda self: None), "__bases__": (TracedSignal,)},
    "values that watch their changes": {"headers": sa.Column(MutableDict.as_mutable(sa.JSON))},  # type: ignore[arg-type]
}


@pytest.mark.parametrize("reason", NEEDS_INSTANCES)
def test_a_model_with_code_of_its_own_is_sent_as_instances(reason: str) -> None:
    number = list(NEEDS_INSTANCES).index(reason)
    members = {"__tablename__": f"instances_{number}", **NEEDS_INSTANCES[reason]}
    bases = (*members.pop("__bases__", ()), OutboxMessage, Base)
    assert not is_sent_as_rows(type(f"Instances{number}", bases, members))


def test_a_model_whose_load_is_listened_to_is_sent_as_instances() -> None:
    class Watched(OutboxMessage, Base):
        __tablename__ = "watched"

    spec = resolve(Watched)
    assert row_sender(Session(), spec) is not None
    # Each burst asks, because the application may listen later.
    event.listen(Watched, "load", lambda _target, _context: None)
    assert row_sender(Session(), spec) is None


def test_what_messages_take_is_read_when_a_bus_resolves() -> None:
    class Late(OutboxMessage, Base):
        __tablename__ = "late"

    before = plan_of(Late)
    # What is compiled and encoded is kept from one burst to the next.
    assert plan_of(Late) is before
    Late.signalbus_exchange = "later"
    assert plan_of(Late).usual == ("later", None, "Late")


def test_columns_that_are_left_out_or_added_need_no_instances() -> None:
    class Lean(OutboxMessage, Base):
        __tablename__ = "lean"
        headers = None
        body_json = None
        tenant = sa.Column(sa.Text)
        exchange = column_property(sa.literal("orders") + sa.func.coalesce(tenant, ""))

    columns = plan_of(Lean).columns
    assert next(iter(columns)) == "id"
    assert {"exchange", "body", "created_at", "signalbus_id"} < {*columns}
    assert {"headers", "tenant", "body_json"}.isdisjoint(columns)


class Traced(TracedSignal, OutboxMessage, Base):
    __tablename__ = "traced"


def test_a_row_tells_the_trace_it_was_written_in() -> None:
    plan, encoder = plan_of(Traced), Encoder(3, 4096, "guest")
    maker = RowMessages(plan, CONNECTION)
    headers = {"traceparent": f"00-{1:032x}-{2:016x}-01"}
    for stored, expected in ((json.dumps(headers), headers), (None, None), ("{", None)):
        row = tuple({**USUAL, "trace_context": stored}.get(name) for name in plan.columns)
        context = maker.trace_context(row)
        assert (context and context.headers) == expected
        # A message, as one with the headers of a trace, is its own draft.
        assert maker.encoding(encoder)(maker.message(row)) == maker.encoding(encoder)(row)


def test_a_traced_model_may_leave_the_column_out() -> None:
    class Untraced(TracedSignal, OutboxMessage, Base):
        __tablename__ = "untraced"
        trace_context = None

    plan = plan_of(Untraced)
    assert "trace_context" not in plan.columns
    assert RowMessages(plan, CONNECTION).trace_context((None,) * len(plan.columns)) is None


def test_an_attribute_that_replaces_a_column_needs_instances() -> None:
    class Replaced(OutboxMessage, Base):
        __tablename__ = "replaced"

    assert is_sent_as_rows(Replaced)
    Replaced.routing_key = property(lambda self: "other")  # type: ignore[assignment]
    assert not is_sent_as_rows(Replaced)


class Order(OutboxMessage, Base):
    """A model with code of its own."""

    __tablename__ = "with_code"
    signalbus_exchange = "usual"
    __allow_unmapped__ = True
    given: Any = None

    def signalbus_message(self) -> Message:
        return self.given  # type: ignore[no-any-return]


@settings(max_examples=60 * FACTOR, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(messages, min_size=1, max_size=4))
def test_a_message_of_a_model_is_encoded_as_it_is_completed(burst: list[Message]) -> None:
    maker, encoder = SignalMessages(), Encoder(3, 4096, "guest")
    encode = maker.encoding(encoder)
    for message in [*burst, *burst]:
        signal = Order(id=1, created_at=NOON)
        signal.given = message
        [draft] = maker.drafts(signal)
        assert fate(lambda one=draft: encode(one)) == fate(
            lambda one=draft: Encoder(3, 4096, "guest").encode(maker.message(one))
        )


@pytest.mark.parametrize("properties", [None, BasicProperties(app_id="shop", headers={"a": "b"})])
@pytest.mark.parametrize("body", ["text", b"bytes"])
def test_usual_messages_of_models_are_not_completed(
    monkeypatch: pytest.MonkeyPatch, body: str | bytes, properties: BasicProperties | None
) -> None:
    encoder, maker = Encoder(3, 4096, "guest"), SignalMessages()
    signal = Order(id=1, created_at=NOON)
    signal.given = Message(None, "placed", body, properties)
    expected = encoder.encode(*maker(signal))
    monkeypatch.setattr(SignalMessages, "message", None)
    monkeypatch.setattr(encoder_module, "encode", None)
    [draft] = maker.drafts(signal)
    assert maker.encoding(encoder)(draft) == expected


SHARED = BasicProperties(headers={"route": ["north"]})


class Sharing(OutboxMessage, Base):
    """A model whose messages share an object that each of them changes."""

    __tablename__ = "sharing"
    signalbus_exchange = "usual"

    def signalbus_message(self) -> Iterator[Message]:  # type: ignore[override]
        for number in range(2):
            SHARED.correlation_id = f"{self.id}-{number}"
            SHARED.headers["route"][0] = SHARED.correlation_id
            yield Message(None, "placed", b"", SHARED)


def test_messages_keep_properties_that_the_next_signal_changes() -> None:
    maker, encoder = SignalMessages(), Encoder(3, 4096, "guest")
    drafts = [draft for number in (1, 2) for draft in maker.drafts(Sharing(id=number, created_at=NOON))]
    encoded = [maker.encoding(encoder)(draft).data for draft in drafts]
    for text in ("1-0", "1-1", "2-0", "2-1"):
        assert [data.count(text.encode()) for data in encoded].count(2) == 1


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError()], ids=repr)
def test_whatever_a_property_of_a_signal_raises_is_its_own_fault(error: BaseException) -> None:
    def raises(_signal: Any) -> str:
        raise error

    kind = type("Leaving", (Sharing,), {"__abstract__": True, "signalbus_exchange": property(raises)})
    signal, maker = kind.__new__(kind), SignalMessages()
    draft = (signal, Message(None, "placed", b""), 1)
    with pytest.raises(InvalidMessageError, match=type(error).__name__):
        maker.encoding(Encoder(3, 4096, "guest"))(draft)


def test_whatever_interrupts_the_encoding_of_a_row_is_its_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: Any) -> str:
        raise asyncio.CancelledError

    encoder = Encoder(3, 4096, "guest")
    assert isinstance(of_row(encoder, Outbox, USUAL), EncodedMessage)
    monkeypatch.setattr(RowMessages, "_id_of", raises)
    assert str(of_row(encoder, Outbox, USUAL)) == "CancelledError"
