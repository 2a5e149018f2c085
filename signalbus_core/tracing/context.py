"""Stores the trace that a signal was written in, so that its message continues the trace.

Tracing never prevents a signal from being written or sent: without OpenTelemetry, outside a span, or with an invalid
value in the column, the signal is sent without a trace. Only the W3C Trace Context is stored; baggage, which may
contain any data, is not.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text
from sqlalchemy.orm import Mapped, mapped_column

#: The headers of W3C Trace Context.
FIELDS = ("traceparent", "tracestate")


@dataclass(frozen=True)
class StoredContext:
    """The trace context and the time that were stored when a signal was written.

    :param headers: ``traceparent``, and ``tracestate`` where there was one.
    :param written_at: when the signal was written, in seconds since the epoch; None when it is not known.
    """

    headers: Mapping[str, str]
    written_at: float | None


def current_trace_context() -> str | None:
    """The active span's trace context and the time, as text for the column; None when no span is active."""
    headers = _headers_of_now()()
    return json.dumps({**headers, "written_at": round(time.time(), 6)}) if headers else None


class TracedSignal:
    """Mixin that gives a signal model the column ``trace_context``.

    Each insert, also in bulk, fills it from the active span. The message of the signal continues that trace if the
    signal is sent through ``RabbitMQSignal`` or ``Publisher.publish_signals()``.

    Needs OpenTelemetry, ``pip install signalbus[otel]``. Without it the column stays NULL.
    """

    if TYPE_CHECKING:
        trace_context: Mapped[str | None]
    else:
        # Without an annotation, so that it does not become an argument of a dataclass model.
        trace_context = mapped_column(Text, nullable=True, default=current_trace_context)


def stored_context(signal: Any) -> StoredContext | None:
    """The trace context that was stored with a signal; None when there is none, or it is invalid."""
    return parsed_context(getattr(signal, "trace_context", None)) if isinstance(signal, TracedSignal) else None


def parsed_context(text: object) -> StoredContext | None:
    """The trace context that a value of the column holds; None when it holds none, or an invalid one."""
    if not isinstance(text, str):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("traceparent"), str):
        return None
    written_at = found.get("written_at")
    return StoredContext(
        {field: found[field] for field in FIELDS if isinstance(found.get(field), str)},
        float(written_at) if isinstance(written_at, float) else None,
    )


def trace_headers(signal: Any) -> dict[str, str]:
    """The stored context as message headers, for send methods that publish in other ways; empty when there is none."""
    context = stored_context(signal)
    return dict(context.headers) if context is not None else {}


@cache
def _headers_of_now() -> Callable[[], dict[str, str]]:
    """The function for the headers of the active span. Cached, so that not every insert repeats a failed import."""
    try:
        from .active_span import headers
    except ImportError:
        return dict
    return headers
