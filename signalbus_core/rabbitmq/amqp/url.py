"""The URL of one node of the broker, parsed once, and never shown with its password."""

from __future__ import annotations

import ast
import ssl
from urllib.parse import parse_qs, quote, urlsplit

import pika

from ...errors import SetupError
from ...failures import escaping_advice
from ...tcp import Address

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


class BrokerNode:
    """An AMQP URL, ``amqp://user:password@host:port/vhost`` or ``amqps://...``.

    Its query may set what pika's ``URLParameters`` knows, for example ``?heartbeat=10``. ``str()`` of it has no
    password.

    https://www.rabbitmq.com/docs/uri-spec
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _unusable(error, url) from None
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            advice = escaping_advice(url)
            also = f" {advice}." if advice else ""
            raise SetupError(
                f"The RabbitMQ URL must look like amqp://user:password@host:5672/vhost (or amqps://...).{also}"
            )
        is_cut = "@" in parts.path + parts.fragment or ("@" not in parts.netloc and "@" in parts.query)
        if is_cut and (advice := escaping_advice(url)) is not None:
            # Read as it is, a part of the password would be the name of the virtual host, and be shown.
            raise SetupError(f"The RabbitMQ URL has an @ behind its host: {advice}; in a virtual host, @ as %40.")
        self._url = url
        self._has_heartbeat = "heartbeat=" in parts.query
        try:
            parameters = pika.URLParameters(url)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a wrong URL
            raise _unusable(error, url) from None
        self.login: str = parameters.credentials.username
        self.scheme: str = parts.scheme
        self.virtual_host: str = parameters.virtual_host
        host = f"[{parameters.host}]" if ":" in parameters.host else parameters.host
        self.host_and_port: Address = (parameters.host, parameters.port)
        #: The same as text.
        self.address = f"{host}:{parameters.port}"
        self._text = f"{self.scheme}://{self.login}@{self.address}/{quote(self.virtual_host, safe='')}"

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<BrokerNode {self._text}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BrokerNode) and self._url == other._url

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


def _unusable(error: Exception, url: str) -> SetupError:
    # The error text may contain the URL with the password, so only the class is shown.
    why = _unreadable_file(url) or escaping_advice(url) or type(error).__name__
    return SetupError(f"The RabbitMQ URL cannot be used ({why}).")


def _unreadable_file(url: str) -> str | None:
    """Which file that the URL names for TLS cannot be read, and why; None when all can."""
    try:
        [given] = parse_qs(urlsplit(url).query)["ssl_options"]
        options = ast.literal_eval(given)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        names = [name for name in (*AUTHORITIES, "certfile", "keyfile") if options.get(name)]
    except (ValueError, KeyError, SyntaxError, AttributeError, TypeError):
        return None
    for name in names:
        try:
            with open(options[name], "rb"):
                pass
            if name in AUTHORITIES:
                context.load_verify_locations(options[name])
        except OSError as error:
            # The errors of OpenSSL are OSErrors too.
            why = "it is no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            return f"{name}: the file {options[name]} cannot be read: {why}"
        except (TypeError, ValueError):
            return f"{name}: the path of a file is expected"
    if "certfile" in names:
        return (
            f"certfile {options['certfile']} and keyfile {options.get('keyfile')} do not hold a certificate and its key"
        )
    return None


#: The names in ``ssl_options`` of the file with the certificates of authorities.
AUTHORITIES = ("ca_certs", "cafile")
