"""Reads the active OpenTelemetry span. Importers must cope with an ImportError: OpenTelemetry is optional."""

from __future__ import annotations

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_propagator = TraceContextTextMapPropagator()


def headers() -> dict[str, str]:
    """The W3C headers of the active span; empty when no span is active."""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier
