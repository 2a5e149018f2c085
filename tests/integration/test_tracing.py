"""Traces: from the transaction that writes a signal, through the outbox, into the message."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pika import BasicProperties

from signalbus_core import PartialDeliveryError, SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal, tracing
from signalbus_core.tracing import TracedSignal, trace_headers
from tests.support.broker import Broker
from tests.support.programs import free_port
from tests.support.spans import Tracing


class Database(SignalBusMixin, SQLAlchemy):
    pass


def id_of(number: int) -> str:
    """The id of a signal with this key."""
    return str(uuid.UUID(int=number))


class Shop:
    """A traced signal model and one that is not, with a queue that receives their messages."""

    def __init__(self, database_url: str, broker: Broker) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.app.config["SIGNALBUS_RABBITMQ_URL"] = broker.url
        self.db = db = Database(self.app)
        self.broker = broker
        self.exchange = exchange = broker.exchange()
        self.queue = broker.queue(exchange, "order.*")
        self.message_of: Any = lambda signal: Message(None, None, f"order {signal.id}")
        shop = self

        class Order(TracedSignal, RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
            signalbus_exchange = exchange
            signalbus_routing_key = "order.placed"
            id = db.Column(db.Integer, primary_key=True)

            def signalbus_message(self) -> Any:
                return shop.message_of(self)

        class Plain(RabbitMQSignal, db.Model):  # type: ignore[name-defined,misc]
            signalbus_exchange = exchange
            signalbus_routing_key = "order.plain"
            id = db.Column(db.Integer, primary_key=True)
            trace_context = db.Column(db.Text)

            def signalbus_message(self) -> Any:
                return Message()

        self.model: Any = Order
        self.plain: Any = Plain
        with self.app.app_context():
            db.create_all()

    def write(self, *ids: int) -> None:
        self.db.session.add_all([self.model(id=number, signalbus_id=id_of(number)) for number in ids])
        self.db.session.commit()

    def stored(self) -> list[dict[str, Any] | None]:
        with self.db.engine.connect() as connection:
            texts = connection.scalars(sa.text('SELECT trace_context FROM "order" ORDER BY id'))
            return [None if text is None else json.loads(text) for text in texts]

    def send(self) -> list[dict[str, Any]]:
        """Send what is pending; return the headers of the messages that arrived."""
        self.db.signalbus.flushmany()
        return [message.properties.headers or {} for message in self.broker.take_all(self.queue)]


@pytest.fixture
def shop(database_url: str, broker: Broker) -> Iterator[Shop]:
    shop = Shop(database_url, broker)
    with shop.app.app_context():
        yield shop
        for publisher in shop.app.extensions.get("signalbus_publishers", []):
            publisher.close()
        shop.db.engine.dispose()


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> Tracing:
    return Tracing(monkeypatch)


def traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def test_a_consumer_continues_the_trace_of_the_transaction_that_wrote_the_signal(shop: Shop, traces: Tracing) -> None:
    with traces.span() as request:
        shop.write(1)
    [headers] = shop.send()
    received = trace.get_current_span(TraceContextTextMapPropagator().extract(headers)).get_span_context()
    [span] = traces.sent()
    assert span.kind is SpanKind.PRODUCER
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (request.trace_id, request.span_id)
    assert (received.trace_id, received.span_id) == (request.trace_id, span.context.span_id)


def test_spans_of_a_burst_belong_to_traces_of_their_signals(shop: Shop, traces: Tracing) -> None:
    requests = {}
    for number in range(1, 6):
        with traces.span() as requests[number]:
            shop.write(number)
    shop.write(6)
    headers = shop.send()
    spans = {span.attributes["messaging.message.id"]: span for span in traces.sent()}  # type: ignore[index]
    assert sorted(spans) == [id_of(number) for number in range(1, 6)]
    for number, request in requests.items():
        span = spans[id_of(number)]
        assert span.parent is not None
        assert span.parent.span_id == request.span_id
        assert headers[number - 1] == {"traceparent": traceparent(span.context)}
    assert headers[5] == {}


def test_the_context_is_stored_however_the_signal_is_written(shop: Shop, traces: Tracing) -> None:
    session, model = shop.db.session, shop.model
    started = time.time()
    with traces.span() as request:
        session.add(model(id=1))
        session.flush()
        session.execute(sa.insert(model), [{"id": 2}, {"id": 3}])
        session.execute(sa.insert(model).values([{"id": 4}, {"id": 5}]))
        session.bulk_save_objects([model(id=6)])
        session.bulk_insert_mappings(model, [{"id": 7}])
        session.execute(sa.insert(model).from_select(["id"], sa.select(sa.literal(8))))
        session.execute(sa.insert(model.__table__).values(id=9))
    session.commit()
    stored = shop.stored()
    assert len(stored) == 9
    for context in stored:
        assert context is not None
        assert context["traceparent"] == traceparent(request)
        assert started - 0.001 <= context["written_at"] <= time.time() + 0.001


def test_without_active_span_nothing_is_stored_or_sent_along(shop: Shop, traces: Tracing) -> None:
    shop.write(1)
    assert shop.stored() == [None]
    assert shop.send() == [{}]
    assert traces.sent() == []


def test_a_column_of_that_name_in_another_model_is_left_alone(shop: Shop, traces: Tracing) -> None:
    with traces.span() as request:
        shop.db.session.add(shop.plain(id=1, trace_context=json.dumps({"traceparent": traceparent(request)})))
        shop.db.session.commit()
    assert shop.send() == [{}]
    assert traces.sent() == []


def test_the_attributes_are_those_of_the_semantic_conventions(shop: Shop, traces: Tracing) -> None:
    shop.message_of = lambda _signal: Message(None, None, b"", BasicProperties(correlation_id="c-1"))
    with traces.span():
        shop.write(7)
    long_ago = json.dumps(shop.stored()[0] | {"written_at": time.time() - 3600})  # type: ignore[operator]
    shop.db.session.execute(sa.update(shop.model).values(trace_context=long_ago))
    shop.db.session.commit()
    shop.send()
    [span] = traces.sent()
    attributes = dict(span.attributes or {})
    assert 3600 <= attributes.pop("signalbus.outbox.seconds") < 3700  # type: ignore[operator]
    server = sa.make_url(shop.broker.url)
    assert attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": f"{shop.exchange}:order.placed",
        "messaging.rabbitmq.destination.routing_key": "order.placed",
        "messaging.message.id": id_of(7),
        "messaging.message.conversation_id": "c-1",
        "server.address": server.host,
        "server.port": server.port,
        "signalbus.outcome": "acked",
    }
    assert span.name == f"send {shop.exchange}"
    assert span.status.status_code is StatusCode.UNSET


def test_default_exchange_is_called_by_its_name_in_conventions(shop: Shop, traces: Tracing) -> None:
    shop.message_of = lambda _signal: Message("", shop.queue)
    with traces.span():
        shop.write(1)
    shop.send()
    [span] = traces.sent()
    assert span.name == "send amq.default"
    assert span.attributes is not None
    assert span.attributes["messaging.destination.name"] == shop.queue


def test_each_message_of_a_signal_has_a_span_of_its_own(shop: Shop, traces: Tracing) -> None:
    shop.message_of = lambda _signal: [Message(), Message(routing_key="order.paid")]
    with traces.span():
        shop.write(1)
    headers = shop.send()
    spans = traces.sent()
    assert [header["traceparent"] for header in headers] == [traceparent(span.context) for span in spans]
    assert len({span.context.span_id for span in spans}) == 2


def test_the_tracestate_of_other_vendors_is_carried_along(shop: Shop, traces: Tracing) -> None:
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "7")]))
    with trace.use_span(NonRecordingSpan(parent)):
        shop.write(1)
    [headers] = shop.send()
    assert headers["tracestate"] == "vendor=7"


def test_what_is_not_sampled_is_not_recorded_but_carried_on(shop: Shop, traces: Tracing) -> None:
    with trace.use_span(NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(0)))):
        shop.write(1)
    [headers] = shop.send()
    assert headers["traceparent"].startswith(f"00-{5:032x}-")
    assert headers["traceparent"].endswith("-00")
    assert traces.sent() == []


def test_where_no_tracing_is_set_up_stored_context_is_passed_on(shop: Shop, traces: Tracing) -> None:
    with traces.span() as request:
        shop.write(1)
    traces.use_provider(trace.NoOpTracerProvider())
    assert shop.send() == [{"traceparent": traceparent(request)}]


def test_headers_of_the_application_stay_and_are_not_written_to(shop: Shop, traces: Tracing) -> None:
    shared = BasicProperties(headers={"tenant": "a"})
    shop.message_of = lambda _signal: Message(None, None, b"", shared)
    with traces.span():
        shop.write(1, 2)
    headers = shop.send()
    assert [header["tenant"] for header in headers] == ["a", "a"]
    assert len({header["traceparent"] for header in headers}) == 2
    assert shared.headers == {"tenant": "a"}


def test_a_traceparent_of_the_application_wins_and_is_linked(shop: Shop, traces: Tracing) -> None:
    own = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(1))
    properties = BasicProperties(headers={"traceparent": traceparent(own)})
    shop.message_of = lambda _signal: Message(None, None, b"", properties)
    with traces.span() as request:
        shop.write(1)
    assert shop.send() == [{"traceparent": traceparent(own)}]
    [span] = traces.sent()
    assert span.kind is SpanKind.CLIENT
    assert span.context.trace_id == request.trace_id
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(7, 8)]


def test_a_span_that_is_active_while_sending_is_linked(shop: Shop, traces: Tracing) -> None:
    with traces.span() as request:
        shop.write(1)
    with traces.span("cron job") as job:
        shop.send()
    [span] = traces.sent()
    assert span.context.trace_id == request.trace_id
    assert [link.context.span_id for link in span.links] == [job.span_id]


def test_of_a_burst_only_spans_of_what_was_not_taken_are_errors(shop: Shop, traces: Tracing) -> None:
    keys = {2: "nobody.wants", 3: "k" * 256}
    shop.message_of = lambda signal: Message(None, keys.get(signal.id, "order.placed"))
    with traces.span():
        shop.write(1, 2, 3)
    with pytest.raises(PartialDeliveryError):
        shop.send()
    spans = {str((span.attributes or {})["messaging.message.id"]): span for span in traces.sent()}
    told = {
        key: (span.status.status_code, (span.attributes or {}).get("error.type"), span.attributes["signalbus.outcome"])  # type: ignore[index]
        for key, span in spans.items()
    }
    assert told == {
        id_of(1): (StatusCode.UNSET, None, "acked"),
        id_of(2): (StatusCode.ERROR, "returned", "returned"),
        id_of(3): (StatusCode.ERROR, "invalid", "invalid"),
    }
    assert "NO_ROUTE" in str(spans[id_of(2)].status.description)


def test_a_span_tells_that_the_broker_was_away(shop: Shop, traces: Tracing) -> None:
    shop.app.config["SIGNALBUS_RABBITMQ_URL"] = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    with traces.span():
        shop.write(1)
    with pytest.raises(PartialDeliveryError):
        shop.send()
    [span] = traces.sent()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["signalbus.outcome"] == "unknown"


def test_no_span_is_left_open_when_a_publish_breaks_off(
    shop: Shop, traces: Tracing, monkeypatch: pytest.MonkeyPatch
) -> None:
    with traces.span():
        shop.write(1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("signalbus_core.rabbitmq.batch.Batch.run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        shop.send()
    [span] = traces.sent()
    assert span.status.status_code is StatusCode.ERROR
    assert span.end_time is not None


def test_no_payload_is_in_a_span(shop: Shop, traces: Tracing) -> None:
    shop.message_of = lambda _signal: Message(None, "nobody", "secret body", BasicProperties(headers={"a": "secret"}))
    with traces.span():
        shop.write(1)
    with pytest.raises(PartialDeliveryError):
        shop.send()
    [span] = traces.sent()
    assert "secret" not in span.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "null", "7", "[]", "{", '{"traceparent": 7}', '{"traceparent": "00-zz"}', '{"written_at": 1.0}', "[" * 99_999],
    ids=lambda text: text[:20],
)
def test_what_is_no_trace_context_costs_no_signal_its_message(shop: Shop, traces: Tracing, text: str) -> None:
    shop.db.session.add(shop.model(id=1, trace_context=text))
    shop.db.session.commit()
    assert shop.send() == [{}]
    assert traces.sent() == []


class BrokenSampler(Sampler):
    def should_sample(self, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the sampler of the application")

    def get_description(self) -> str:
        return "broken"


def test_fault_in_tracing_stops_no_signal_and_is_told_once(
    shop: Shop, traces: Tracing, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "_logged", set())
    with traces.span():
        shop.write(1, 2)
    traces.use(BrokenSampler())
    with caplog.at_level(logging.WARNING, "signalbus"):
        assert shop.send() == [{}, {}]
    assert [record.action for record in caplog.records] == ["tracing_failed"]  # type: ignore[attr-defined]


def test_a_sender_of_another_kind_gets_stored_context_as_headers(shop: Shop, traces: Tracing) -> None:
    with traces.span() as request:
        shop.write(1)
    assert trace_headers(shop.db.session.get(shop.model, 1)) == {"traceparent": traceparent(request)}
    assert trace_headers(shop.model(id=2)) == {}
    assert trace_headers(object()) == {}
