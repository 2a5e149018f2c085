"""For tests of applications: find the signals that were written, send them at once, and use a broker in memory.

:mod:`signalbus_core.testing.fixtures` has the same as pytest fixtures.
"""

from __future__ import annotations

from .clock import time_passes
from .fake_broker import FakeBroker, ReceivedMessage
from .fake_publisher import FakePublisher
from .order import assert_order
from .signals import SignalsLeftError, WrittenSignals, pending_signals, send_until_empty, written_signals

__all__ = [
    # Written signals
    "pending_signals",
    "written_signals",
    "WrittenSignals",
    # Sending them
    "send_until_empty",
    "SignalsLeftError",
    # Scheduled signals
    "time_passes",
    # Without RabbitMQ
    "FakePublisher",
    "FakeBroker",
    "ReceivedMessage",
    # Order by key
    "assert_order",
]
