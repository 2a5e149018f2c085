"""Describes pika's errors in one line for people, never with a password."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass

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


@dataclass(frozen=True)
class ConnectFailure:
    """Why a connection could not be opened, or was lost: the same for relays and for commands.

    :param text: in words for people; never with a password.
    :param remedy: what to do; empty where the text does not tell.
    """

    text: str
    remedy: str = ""


def describe(error: BaseException | str) -> str:
    """Describe in one line why a connection could not be opened, or was closed."""
    return error if isinstance(error, str) else failure_of(error).text


def is_refusal(error: BaseException | str) -> bool:
    """Whether the broker answered, and refused: the login, the virtual host, one more connection, or TLS."""
    if isinstance(error, str):
        return False
    cause = _innermost(error)
    kinds = (ProbableAuthenticationError, ProbableAccessDeniedError, ConnectionClosedByBroker)
    return isinstance(error, kinds) or isinstance(cause, kinds) or _tls_failure(cause) is not None


def failure_of(error: BaseException) -> ConnectFailure:
    """Why a connection could not be opened, or was lost, and what to do."""
    cause = _innermost(error)
    if (of_tls := _tls_failure(cause)) is not None:
        return of_tls
    if isinstance(cause, IncompatibleProtocolError) and "SSLEOFError" in str(cause):
        return ENDED_HANDSHAKE
    if isinstance(error, ConnectionClosedByBroker):
        return ConnectFailure(f"{CLOSED}: {error.reply_code} {error.reply_text}", SEE_LOG)
    # The number of an operating system's error says the same as its text.
    parts = [part for part in cause.args if isinstance(part, (str, int) if len(cause.args) == 1 else str)]
    detail = _shortened(": ".join(filter(None, map(str, parts))))
    hint, remedy = next(((text, do) for kind, text, do in HINTS if isinstance(cause, kind)), (type(cause).__name__, ""))
    return ConnectFailure(f"{hint}: {detail}" if detail else hint, remedy)


def _shortened(detail: str) -> str:
    """With what a broker has refused, of the text that pika makes of it; of a refused login, that says it all."""
    refusal = _REFUSAL.search(detail)
    return detail if refusal is None else f"{refusal[1]} {refusal[3].partition(' - Login was refused')[0]}"


_REFUSAL = re.compile(r"\((\d{3})\) (['\"])(.*)\2")


def remedy_of_reason(reason: str) -> str:
    """What to do about a connection that failed for this reason, which is a text of :func:`failure_of`; or empty."""
    known = [*((text, do) for _, text, do in HINTS), *((one.text, one.remedy) for _, one in TLS_FAILURES)]
    known += [(one.text, one.remedy) for one in (ENDED_HANDSHAKE, OTHER_TLS_FAILURE)]
    return next((do for text, do in [*known, (CLOSED, SEE_LOG)] if text in reason), "")


def _tls_failure(cause: BaseException) -> ConnectFailure | None:
    # pika keeps only the text of an error that comes after the handshake, as the refusal of a client without
    # certificate does in TLS 1.3.
    text = str(cause)
    if not (isinstance(cause, ssl.SSLError) or "SSLError" in text or "[SSL" in text):
        return None
    return next((failure for pattern, failure in TLS_FAILURES if pattern.search(text)), OTHER_TLS_FAILURE)


#: The end of the stream may overtake the alert that says why.
ENDED_HANDSHAKE = ConnectFailure(
    "TLS failed: the broker ended the connection during the handshake",
    "If it requires a certificate of the client, name one with certfile and keyfile in the URL's ssl_options.",
)

OTHER_TLS_FAILURE = ConnectFailure("TLS failed", "Check the port, and the certificates of both sides.")

#: Failures of TLS by the texts of OpenSSL.
# https://docs.openssl.org/master/man1/openssl-verification-options/
TLS_FAILURES = tuple(
    (re.compile(pattern, re.IGNORECASE), ConnectFailure(f"TLS failed: {text}", remedy))
    for pattern, text, remedy in (
        (
            "certificate has expired",
            "the certificate of the broker has expired",
            "Renew the certificate of the broker; if it is not too old, set this machine's clock.",
        ),
        (
            "certificate is not yet valid",
            "the certificate of the broker is not valid yet",
            "Set the clocks of both machines.",
        ),
        (
            "hostname mismatch|ip address mismatch",
            "the certificate of the broker is for another host name",
            "Name the host in the URL as the certificate does, or set server_hostname in its ssl_options.",
        ),
        (
            "issuer certificate|self[- ]signed certificate|unable to verify the first certificate",
            "the certificate of the broker is signed by an authority that this machine does not know",
            "Name the file with the authority's certificate in the URL: ?ssl_options={'cafile': '/path/ca.pem'}.",
        ),
        (
            "wrong[_ ]version[_ ]number|unknown[_ ]protocol|record[_ ]layer[_ ]failure|http[_ ]request",
            "what listens there does not speak TLS",
            "Give the broker's port for TLS, usually 5671, or begin the URL with amqp://.",
        ),
        (
            "certificate[_ ]required",
            "the broker requires a certificate of the client",
            "Name one in the URL: ?ssl_options={'cafile': ..., 'certfile': ..., 'keyfile': ...}.",
        ),
        (
            "alert[_ ](unknown[_ ]ca|bad[_ ]certificate|certificate[_ ]|unsupported[_ ]certificate)",
            "the broker refuses the certificate of the client",
            "Have the broker trust its authority (cacertfile), or name another with certfile and keyfile.",
        ),
        (
            "handshake[_ ]failure|protocol[_ ]version|no[_ ]shared[_ ]cipher",
            "the broker refuses the handshake: it requires a certificate of the client, or other versions or ciphers",
            "Name a certificate with certfile and keyfile in ssl_options, or have both sides share a version.",
        ),
    )
)


def _innermost(error: BaseException) -> BaseException:
    """The original error: pika wraps it once for each layer."""
    while True:
        wrapped = [getattr(error, "exception", None), *reversed(getattr(error, "exceptions", ())), *error.args]
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)
        if inner is None:
            return error
        error = inner


CLOSED = "closed by the broker"

SEE_LOG = "See the broker's log."

_CHECK_PLACE = "Check that the broker runs, and the host and port in its URL."

HINTS: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ProbableAuthenticationError,
        "the login was refused",
        "Set the right user and password in the URL; in it, write @ as %40, / as %2F, # as %23, % as %25.",
    ),
    (
        ProbableAccessDeniedError,
        "the virtual host is missing, or closed to this user",
        "Create the virtual host, or grant the user permissions on it (rabbitmqctl set_permissions).",
    ),
    (
        IncompatibleProtocolError,
        "the connection was closed during the handshake",
        "If it is a port for TLS, begin the URL with amqps://; else check that it is one for AMQP 0-9-1.",
    ),
    (AMQPConnectorStackTimeout, "no answer in time", _CHECK_PLACE),
    (ConnectionOpenAborted, "no answer in time", _CHECK_PLACE),
    (AMQPHeartbeatTimeout, "heartbeats were missed", "Check the load of the broker, and the network to it."),
    (StreamLostError, "the connection was lost", SEE_LOG),
    (ConnectionRefusedError, "nothing listens there", _CHECK_PLACE),
    (TimeoutError, "no answer in time", _CHECK_PLACE),
    (socket.gaierror, "the host name cannot be resolved", "Check the host in the URL, and the name server."),
)
