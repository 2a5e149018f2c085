"""The URL of the broker, parsed once, and never shown with its password."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pika

from ...errors import SetupError

#: Proposed to the broker where the URL sets none. Longer: a dead connection is noticed later.
HEARTBEAT_SECONDS = 20

#: The kernel closes a connection when sent data stays unacknowledged for so long.
TCP_USER_TIMEOUT_MILLISECONDS = 30_000

TCP_OPTIONS = {
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": TCP_USER_TIMEOUT_MILLISECONDS,
}


class BrokerLocation:
    """An AMQP URL, ``amqp://user:password@host:port/vhost`` or ``amqps://...``.

    Its query may set what pika's ``URLParameters`` knows, for example ``?heartbeat=10``. ``str()`` of it has no
    password.

    https://www.rabbitmq.com/docs/uri-spec
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _unusable(error) from None
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise SetupError("The RabbitMQ URL must look like amqp://user:password@host:5672/vhost (or amqps://...).")
        self._url = url
        self._has_heartbeat = "heartbeat=" in parts.query
        try:
            parameters = pika.URLParameters(url)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a wrong URL
            raise _unusable(error) from None
        self.login: str = parameters.credentials.username
        vhost = quote(parameters.virtual_host, safe="")
        self._text = f"{parts.scheme}://{self.login}@{parameters.host}:{parameters.port}/{vhost}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<BrokerLocation {self._text}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BrokerLocation) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def parameters(self, timeout_seconds: float) -> pika.URLParameters:
        """pika's parameters for one attempt to connect."""
        parameters = pika.URLParameters(self._url)
        if not self._has_heartbeat:
            parameters.heartbeat = HEARTBEAT_SECONDS
        parameters.connection_attempts = 1
        parameters.retry_delay = 0
        parameters.socket_timeout = timeout_seconds
        parameters.stack_timeout = timeout_seconds
        # The publisher handles a blocked connection, with its own deadline.
        parameters.blocked_connection_timeout = None
        parameters.tcp_options = {**TCP_OPTIONS, **(parameters.tcp_options or {})}
        parameters.client_properties = {"connection_name": "signalbus"}
        return parameters


def _unusable(error: Exception) -> SetupError:
    # The error text may contain the URL with the password, so only the class is shown.
    return SetupError(f"The RabbitMQ URL cannot be used ({type(error).__name__}).")
