"""For the tests of applications: which signals were written, sending them at once, and a broker in memory.

:mod:`signalbus_core.testing.fixtures` has the same as fixtures for pytest.
"""

from __future__ import annotations

from .fake_broker import FakeBroker, ReceivedMessage
from .fake_publisher import FakePublisher
from .signals import SignalsLeftError, WrittenSignals, pending_signals, send_until_empty, written_signals

__all__ = [
    # What was written
    "pending_signals",
    "written_signals",
    "WrittenSignals",
    # Sending it
    "send_until_empty",
    "SignalsLeftError",
    # Without RabbitMQ
    "FakePublisher",
    "FakeBroker",
    "ReceivedMessage",
]
