"""The relay: a daemon that sends the signals of a Flask application to RabbitMQ."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("signalbus")
