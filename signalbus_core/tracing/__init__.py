"""The trace in which a signal was written, so that its message continues it."""

from __future__ import annotations

from .context import TracedSignal, trace_headers

__all__ = ["TracedSignal", "trace_headers"]
