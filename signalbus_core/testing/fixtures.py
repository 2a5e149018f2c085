"""Fixtures for pytest: ``pytest_plugins = ["signalbus_core.testing.fixtures"]`` in conftest.py makes them available.

They need a fixture ``app`` that the application defines: the Flask application, with its tables created.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial

import pytest
from flask import Flask

from .fake_broker import FakeBroker
from .fake_publisher import FakePublisher
from .signals import WrittenSignals, send_until_empty, written_signals


@pytest.fixture
def signalbus_broker(app: Flask) -> Iterator[FakeBroker]:
    """A broker in memory that receives the signals of the application during the test."""
    with FakePublisher(url=app.config.get("SIGNALBUS_RABBITMQ_URL")).installed(app) as publisher:
        yield publisher.broker


@pytest.fixture
def signalbus_written(app: Flask) -> Callable[..., AbstractContextManager[WrittenSignals]]:
    """:func:`signalbus_core.testing.written_signals` of the application."""
    return partial(written_signals, app)


@pytest.fixture
def signalbus_send(app: Flask) -> Callable[..., int]:
    """:func:`signalbus_core.testing.send_until_empty` of the application."""
    return partial(send_until_empty, app)
