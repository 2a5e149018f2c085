"""Which connection parameters the client library rejects, found out without a server.

Such a rejection is no outage: it stays until the configuration changes.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

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
    reasons = {place_of(key): rejected_parameters(engine) for key, engine in engines.items()}
    if rejected := {name: why.rstrip(".") for name, why in reasons.items() if why is not None}:
        raise RejectedParametersError(rejected)


def rejected_parameters(engine: Engine) -> str | None:
    """Why the client library would never connect with the engine's parameters; None when it would try.

    No server is contacted, and the engine's pool is not used.
    """
    if engine.dialect.driver not in DRIVERS:
        return None
    with _leading_nowhere(engine) as seen:
        try:
            _connect(engine)
        except SQLAlchemyError as error:
            text = error_text(error)
        except Exception as error:  # noqa: BLE001 - the driver refuses some parameters by errors of Python
            text = error_text(error)
        else:
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


def _connect(engine: Engine) -> None:
    """Connect outside the pool, with what its connections would get."""
    pool = engine.pool.recreate()
    with suppress(AttributeError):
        pool.connect().close()
    pool.dispose()


@contextmanager
def _leading_nowhere(engine: Engine) -> Iterator[list[Mapping[str, Any]]]:
    """Have the engine's connections go nowhere; gives the parameters that they would have had."""
    seen: list[Mapping[str, Any]] = []

    def redirect(_dialect: Any, _record: Any, _arguments: list[Any], parameters: dict[str, Any]) -> None:
        seen.append(dict(parameters))
        hosts = str(parameters.get("host", "")).count(",") + 1
        # An empty hostaddr also overrides PGHOSTADDR.
        parameters.update(host=",".join([NOWHERE] * hosts), hostaddr="")

    event.listen(engine, "do_connect", redirect)
    try:
        yield seen
    finally:
        event.remove(engine, "do_connect", redirect)


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
