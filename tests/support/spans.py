"""OpenTelemetry for one test: a tracer provider of its own, and the spans that ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler


class Tracing:
    """The application's OpenTelemetry set-up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.exporter = InMemorySpanExporter()
        self.use()

    def use(self, sampler: Sampler | None = None) -> None:
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.use_provider(provider)

    def use_provider(self, provider: trace.TracerProvider) -> None:
        """OpenTelemetry takes a provider once in a process; tests need a new one each."""
        self._monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)

    @contextmanager
    def span(self, name: str = "request") -> Iterator[trace.SpanContext]:
        with trace.get_tracer("shop").start_as_current_span(name) as span:
            yield span.get_span_context()

    def sent(self) -> list[ReadableSpan]:
        """The spans of messages, in the order in which they ended."""
        scopes: Any = self.exporter.get_finished_spans()
        return [span for span in scopes if span.instrumentation_scope.name == "signalbus"]
