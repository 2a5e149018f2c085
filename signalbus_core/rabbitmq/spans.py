"""The span of one message: from before it is sent until the broker's answer is known, in the trace of its signal.

The only module of the publisher that imports OpenTelemetry; imported when the first traced signal is sent. Names follow
the semantic conventions: https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/. No payload is in a span.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pika.spec import BasicProperties

from ..errors import Outcome, OutcomeKind
from ..tracing.context import FIELDS, StoredContext
from .amqp.message import PROPERTIES, Message
from .amqp.url import BrokerNode

_propagator = TraceContextTextMapPropagator()


class Span:
    """The span of one message."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def end(self, outcome: Outcome | None) -> None:
        """End it with the outcome of its message; None when the publish was aborted before there was one."""
        cause = outcome.cause if outcome is not None else OutcomeKind.UNKNOWN.value
        self._span.set_attribute("signalbus.outcome", cause)
        if outcome is None or outcome.kind is not OutcomeKind.ACKED:
            self._span.set_attribute("error.type", cause)
            self._span.set_status(trace.StatusCode.ERROR, outcome.reason if outcome is not None else "broken off")
        self._span.end()


class Spans:
    """Starts the spans of one publish.

    :param node: of the broker; None when it is not known.
    """

    def __init__(self, node: BrokerNode | None) -> None:
        self._tracer = trace.get_tracer("signalbus")
        self._common = _common_attributes(node)
        active = trace.get_current_span().get_span_context()
        #: The sender's own trace, which is not that of the signal, is only linked.
        self._links = [trace.Link(active)] if active.is_valid else []

    def begin(self, context: StoredContext, messages: Sequence[Message]) -> tuple[list[Span], list[Message]]:
        """Start the spans of a signal's messages; return them, and the messages with their trace context as headers.

        A message that already has a ``traceparent`` keeps it. Its span is linked to that, and is no producer span.
        """
        parent = _propagator.extract(context.headers)
        if not _span_context(parent).is_valid:
            # Without a valid parent, the span would start a new trace.
            return [], list(messages)
        spans = [self._start(parent, context, message) for message in messages]
        return [Span(span) for span in spans], [_with_context(*pair) for pair in zip(messages, spans, strict=True)]

    def _start(self, parent: Context, context: StoredContext, message: Message) -> trace.Span:
        own = _own_headers(message)
        kind = trace.SpanKind.PRODUCER if own is None else trace.SpanKind.CLIENT
        other = [_span_context(_propagator.extract(own))] if own is not None else []
        links = [*self._links, *(trace.Link(linked) for linked in other if linked.is_valid)]
        attributes = {**self._common, **_attributes(message), **_waiting(context)}
        name = f"send {message.exchange or 'amq.default'}"
        return self._tracer.start_span(name, context=parent, kind=kind, attributes=attributes, links=links)


def _common_attributes(node: BrokerNode | None) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    parts = urlsplit(str(node)) if node is not None else None
    if parts is not None and parts.hostname and parts.port:
        attributes |= {"server.address": parts.hostname, "server.port": parts.port}
    return attributes


def _attributes(message: Message) -> dict[str, str]:
    properties = message.properties
    address = [part for part in (message.exchange, message.routing_key) if part and isinstance(part, str)]
    attributes = {
        "messaging.destination.name": ":".join(address) or "amq.default",
        "messaging.rabbitmq.destination.routing_key": message.routing_key,
        "messaging.message.id": getattr(properties, "message_id", None),
        "messaging.message.conversation_id": getattr(properties, "correlation_id", None),
    }
    return {name: value for name, value in attributes.items() if value and isinstance(value, str)}


def _waiting(context: StoredContext) -> dict[str, float]:
    """How long the signal has been in the outbox, by the clocks of its writer and its sender."""
    if context.written_at is None:
        return {}
    return {"signalbus.outbox.seconds": max(0.0, time.time() - context.written_at)}


def _span_context(context: Context) -> trace.SpanContext:
    return trace.get_current_span(context).get_span_context()


def _own_headers(message: Message) -> dict[str, str] | None:
    """The trace context that the application itself has put into the message; None when it has not."""
    headers = getattr(message.properties, "headers", None)
    if not isinstance(headers, Mapping) or "traceparent" not in headers:
        return None
    return {field: headers[field] for field in FIELDS if isinstance(headers.get(field), str)}


def _with_context(message: Message, span: trace.Span) -> Message:
    """The message with the span's context as headers. Headers and properties are copied: messages may share them."""
    given = message.properties if message.properties is not None else BasicProperties()
    if not isinstance(given, BasicProperties) or _own_headers(message) is not None:
        return message
    if given.headers is not None and not isinstance(given.headers, Mapping):
        # The message is invalid; the encoder will report it.
        return message
    headers: dict[str, Any] = {}
    _propagator.inject(headers, trace.set_span_in_context(span))
    properties = BasicProperties(**{name: getattr(given, name) for name in PROPERTIES})
    properties.headers = {**(given.headers or {}), **headers}
    return replace(message, properties=properties)
