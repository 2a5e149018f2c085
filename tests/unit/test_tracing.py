"""Stored trace contexts, and a library without OpenTelemetry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from pika import BasicProperties

from signalbus_core.rabbitmq import Message
from signalbus_core.rabbitmq.tracing import PublishTrace
from signalbus_core.tracing.context import TracedSignal, current_trace_context, stored_context

ROOT = Path(__file__).parents[2]
PARENT = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1))

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message
from signalbus_core.rabbitmq.tracing import PublishTrace
from signalbus_core.tracing.context import TracedSignal, stored_context, trace_headers

class Database(SignalBusMixin, SQLAlchemy):
    pass

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db = Database(app)

class Order(TracedSignal, db.Model):
    id = db.Column(db.Integer, primary_key=True)

with app.app_context():
    db.create_all()
    db.session.add(Order(id=1))
    db.session.add(Order(id=2, trace_context='{"traceparent": "00-%032x-%016x-01"}' % (1, 2)))
    db.session.commit()
    first, second = db.session.scalars(db.select(Order).order_by(Order.id))
    assert first.trace_context is None
    assert list(trace_headers(second)) == ["traceparent"]
    message = Message("x", "y")
    with PublishTrace(None) as publish:
        assert publish.begin(0, stored_context(second), [message], None) == [message]
        publish.end(lambda: [[]])
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
print("done")
"""


class Signal(TracedSignal):
    def __init__(self, trace_context: object) -> None:
        self.trace_context = trace_context  # type: ignore[assignment]


def test_without_opentelemetry_nothing_is_stored_and_messages_stay_as_they_are() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_library_imports_opentelemetry_only_when_there_is_trace() -> None:
    code = (
        "import sys, signalbus_core, signalbus_core.rabbitmq, signalbus_core.tracing;"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_what_is_stored_is_read_back() -> None:
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        context = stored_context(Signal(current_trace_context()))
    assert context is not None
    assert context.headers == {"traceparent": f"00-{1:032x}-{2:016x}-01"}
    assert context.written_at is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["traceparent", "tracestate", "written_at"])
TRACEPARENT = st.from_regex(r"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


def begun(publish: PublishTrace, signal: Signal, message: Message) -> list[Message]:
    context = stored_context(signal)
    return [message] if context is None else publish.begin(0, context, [message], lambda draft: draft)


@given(st.text() | st.dictionaries(FIELDS, JSON | TRACEPARENT).map(json.dumps) | st.binary() | JSON)
def test_whatever_is_in_column_leaves_message_body(stored: object) -> None:
    message = Message("x", "y", b"body")
    with PublishTrace(None) as publish:
        [sent] = begun(publish, Signal(stored), message)
    assert (sent.exchange, sent.routing_key, sent.body) == ("x", "y", b"body")


def test_a_message_that_several_signals_share_is_not_written_to() -> None:
    headers = {"tenant": "a"}
    message = Message("x", "y", b"body", BasicProperties(headers=headers, priority=3))
    stored = json.dumps({"traceparent": f"00-{1:032x}-{2:016x}-01"})
    with PublishTrace(None) as publish:
        [sent] = begun(publish, Signal(stored), message)
    assert sent.properties is not None
    assert sent.properties.headers == {"tenant": "a", "traceparent": f"00-{1:032x}-{2:016x}-01"}
    assert sent.properties.priority == 3
    assert message.properties == BasicProperties(headers={"tenant": "a"}, priority=3)
    assert headers == {"tenant": "a"}
