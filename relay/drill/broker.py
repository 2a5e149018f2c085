"""The drill's own connections to the broker: direct, with deadlines, and with all of pika's errors in one name."""

from __future__ import annotations

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

#: How long opening a connection may take.
CONNECT_SECONDS = 10.0

#: Some errors of connecting have a root of their own.
BROKER_ERRORS = (AMQPError, AMQPConnectorException, OSError)


def open_connection(url: str) -> pika.BlockingConnection:
    parameters = pika.URLParameters(url)
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = CONNECT_SECONDS
    parameters.blocked_connection_timeout = CONNECT_SECONDS
    parameters.client_properties = {"connection_name": "signalbus drill"}
    return pika.BlockingConnection(parameters)
