"""Which connection parameters the client library rejects, found out without a server; and which settings a server does.

Such a rejection is no outage: it stays until the configuration changes.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from signalbus_core.lowlevel import error_text

from .databases import DRIVERS, place_of
from .load import LoadingError

#: A directory in which no server can listen. libpq checks all parameters before it looks there.
NOWHERE = "/dev/null/signalbus"

#: The modes of TLS in which libpq needs the root certificate.
# https://www.postgresql.org/docs/current/libpq-ssl.html
VERIFYING = ("verify-ca", "verify-full")

#: Parameters that libpq reads as integers.
INTEGERS = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    "tcp_user_timeout",
)

#: Parameters whose values the server reads.
SETTINGS = {"options", "client_encoding"}

#: A server that does not answer for so long is away. Longer: a relay whose database is away starts later.
ANSWER_WITHIN_SECONDS = 3


class RejectedParametersError(LoadingError):
    """The client library rejects the connection parameters of a database.

    :param rejected: the reason for each database, by its name for people.
    """

    def __init__(self, rejected: Mapping[str, str]) -> None:
        self.rejected = dict(rejected)
        super().__init__("\n".join(f"The URL of the {name} cannot be used: {why}." for name, why in rejected.items()))


def refuse_rejected_parameters(engines: Mapping[str | None, Engine]) -> None:
    """Make sure that the client library would connect to these databases.

    :raises RejectedParametersError: it would not.
    """
    _refuse(engines, rejected_parameters)


def rejected_parameters(engine: Engine) -> str | None:
    """Why the client library would never connect with the engine's parameters; None when it would try.

    No server is contacted, and the engine's pool is not used.
    """
    if engine.dialect.driver not in DRIVERS:
        return None
    with _leading_nowhere(engine) as seen:
        text = _why_refused(engine)
    if text is None:
        return None
    if not seen:
        # The application connects in a way of its own.
        return None
    host, name = (str(seen[-1].get(parameter) or "") for parameter in ("host", "dbname"))
    if "@" in host or re.search("@.*/", name):
        return (
            "its host or database has an @, which most likely belongs to the password: write @ as %40 in it, / as %2F"
        )
    return _not_as_libpq_reads(seen[-1]) if NOWHERE in text else text


def refuse_rejected_settings(engines: Mapping[str | None, Engine]) -> None:
    """Make sure that no server that answers rejects the settings in the parameters of its connections.

    :raises RejectedParametersError: one does.
    """
    _refuse(engines, rejected_settings)


def _refuse(engines: Mapping[str | None, Engine], why_rejected: Callable[[Engine], str | None]) -> None:
    reasons = {place_of(key): why_rejected(engine) for key, engine in engines.items()}
    if rejected := {name: why.rstrip(".") for name, why in reasons.items() if why is not None}:
        raise RejectedParametersError(rejected)


def rejected_settings(engine: Engine) -> str | None:
    """Why the server rejects the settings in the connection's parameters; None when it does not, or does not answer.

    Errors of connections have no SQLSTATE, and their texts are in the server's language. But the server accepts the
    same connection without the settings.
    """
    if engine.dialect.driver not in DRIVERS:
        return None
    with _leading_nowhere(engine) as seen:
        _why_refused(engine)
    if not seen or not SETTINGS & seen[-1].keys():
        return None
    with _changing(engine, _with_little_patience):
        reason = _why_refused(engine)
    if reason is None:
        return None
    with _changing(engine, _without_settings):
        return reason if _why_refused(engine) is None else None


def _with_little_patience(parameters: dict[str, Any]) -> None:
    parameters.setdefault("connect_timeout", ANSWER_WITHIN_SECONDS)


def _without_settings(parameters: dict[str, Any]) -> None:
    _with_little_patience(parameters)
    for name in SETTINGS:
        parameters.pop(name, None)


def _why_refused(engine: Engine) -> str | None:
    try:
        _connect(engine)
    except Exception as error:  # noqa: BLE001 - the driver refuses some parameters by errors of Python
        return error_text(error)
    return None


def _connect(engine: Engine) -> None:
    """Connect outside the pool, with what its connections would get."""
    pool = engine.pool.recreate()
    with suppress(AttributeError):
        pool.connect().close()
    pool.dispose()


@contextmanager
def _leading_nowhere(engine: Engine) -> Iterator[list[Mapping[str, Any]]]:
    """Have the engine's connections go nowhere; gives the parameters that they would have had."""

    def redirect(parameters: dict[str, Any]) -> None:
        hosts = str(parameters.get("host", "")).count(",") + 1
        # An empty hostaddr also overrides PGHOSTADDR.
        parameters.update(host=",".join([NOWHERE] * hosts), hostaddr="")

    with _changing(engine, redirect) as seen:
        yield seen


@contextmanager
def _changing(engine: Engine, change: Callable[[dict[str, Any]], object]) -> Iterator[list[Mapping[str, Any]]]:
    """Change the parameters of the engine's connections; gives those that they would have had."""
    seen: list[Mapping[str, Any]] = []

    def listen(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        seen.append(dict(parameters))
        change(parameters)

    event.listen(engine, "do_connect", listen)
    try:
        yield seen
    finally:
        event.remove(engine, "do_connect", listen)


def _not_as_libpq_reads(parameters: Mapping[str, Any]) -> str | None:
    """What libpq rejects only when it opens a connection over TCP."""
    for name in INTEGERS:
        value = parameters.get(name, 0)
        if not re.fullmatch(r"\s*[+-]?\d+\s*", str(value), re.ASCII):
            return f"invalid integer value for connection option {name}"
    host, address = (str(parameters.get(name) or "") for name in ("host", "hostaddr"))
    if host and address and host.count(",") != address.count(","):
        return "host and hostaddr do not have the same number of entries"
    return _unusable_certificate(parameters)


def _unusable_certificate(parameters: Mapping[str, Any]) -> str | None:
    """Why the root certificate cannot be used; libpq reads it only when a server answers."""
    path = parameters.get("sslrootcert")
    if not isinstance(path, str) or path in ("", "system") or parameters.get("sslmode") not in VERIFYING:
        return None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(Path(path))
    except (OSError, ValueError) as error:
        return f"sslrootcert: the file {path} has no certificate that can be read ({type(error).__name__})"
    return None
