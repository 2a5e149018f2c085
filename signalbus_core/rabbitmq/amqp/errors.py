"""Describes pika's errors in one line for people, never with a password."""

from __future__ import annotations

import socket

from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)


def describe(error: BaseException | str) -> str:
    """Describe in one line why a connection could not be opened, or was closed."""
    if isinstance(error, str):
        return error
    if isinstance(error, ConnectionClosedByBroker):
        return f"closed by the broker: {error.reply_code} {error.reply_text}"
    cause = _innermost(error)
    detail = ": ".join(str(part) for part in cause.args if isinstance(part, (str, int)) and str(part))
    hint = next((hint for kind, hint in HINTS if isinstance(cause, kind)), type(cause).__name__)
    return f"{hint}: {detail}" if detail else hint


def _innermost(error: BaseException) -> BaseException:
    """The original error: pika wraps it once for each layer."""
    while True:
        wrapped = [getattr(error, "exception", None), *reversed(getattr(error, "exceptions", ())), *error.args]
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)
        if inner is None:
            return error
        error = inner


HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (ProbableAuthenticationError, "the login was refused"),
    (ProbableAccessDeniedError, "the virtual host is missing, or closed to this user"),
    (IncompatibleProtocolError, "the connection was closed during the handshake"),
    (AMQPConnectorStackTimeout, "no answer in time"),
    (ConnectionOpenAborted, "no answer in time"),
    (AMQPHeartbeatTimeout, "heartbeats were missed"),
    (StreamLostError, "the connection was lost"),
    (ConnectionRefusedError, "nothing listens there"),
    (TimeoutError, "no answer in time"),
    (socket.gaierror, "the host name cannot be resolved"),
)
