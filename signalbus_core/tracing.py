"""The trace that a signal was written in, stored in its row, so that its message carries the trace on.

A trace never decides whether a signal is written or sent: without OpenTelemetry, outside a span, and with anything in
the column that is no trace context, the signal goes its way without one. Only what W3C Trace Context carries is stored;
baggage, which may hold anything, is not.

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

#: What W3C Trace Context consists of.
FIELDS = ("traceparent", "tracestate")


@dataclass(frozen=True)
class StoredContext:
    """What a signal knows about its writing.

    :param headers: ``traceparent``, and ``tracestate`` where there was one.
    :param written_at: when the signal was written, in seconds since the epoch; None where that is not known.
    """

    headers: Mapping[str, str]
    written_at: float | None


def current_trace_context() -> str | None:
    """The active span's trace context and the time, as text for the column; None when no span is active."""
    headers = _headers_of_now()()
    return json.dumps({**headers, "written_at": round(time.time(), 6)}) if headers else None


class TracedSignal:
    """Mixin that gives a signal model the column ``trace_context``.

    It is filled when the row is inserted, also in bulk, from the span that is active then. The message of the signal
    continues that trace, where the signal is sent through ``RabbitMQSignal`` or ``Publisher.publish_signals()``.

    Needs OpenTelemetry, ``pip install signalbus[otel]``. Without it the column stays NULL.
    """

    if TYPE_CHECKING:
        trace_context: Mapped[str | None]
    else:
        # Without an annotation, so that it becomes no argument of a model that is a dataclass.
        trace_context = mapped_column(Text, nullable=True, default=current_trace_context)


def stored_context(signal: Any) -> StoredContext | None:
    """The trace context that was stored with a signal; None when there is none, or none that can be read."""
    text = getattr(signal, "trace_context", None) if isinstance(signal, TracedSignal) else None
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
    """The stored context as message headers, for send methods that publish by other means; empty when there is none."""
    context = stored_context(signal)
    return dict(context.headers) if context is not None else {}


@cache
def _headers_of_now() -> Callable[[], dict[str, str]]:
    """What tells the headers of the active span. Looked for once: a failed import would be tried at every insert."""
    try:
        from .active_span import headers
    except ImportError:
        return dict
    return headers
