"""The URL of a database, as libpq and SQLAlchemy write it, and its hosts.

Invariant: libpq's list of hosts, ``postgresql://user@h1:5432,h2:5432/db``, becomes what SQLAlchemy reads:
``?host=h1,h2&port=5432,5432``. https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from sqlalchemy.engine import URL

#: The driver that a relay uses where no application chooses one.
DRIVER = "postgresql+psycopg2"

_LIBPQ = re.compile(r"(?P<login>(?:[^/?@]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?")

#: A host, perhaps with its port; an IPv6 address in brackets.
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")


def with_driver(url: str) -> str:
    """The URL of a database, with the driver that is used, and its hosts as SQLAlchemy reads them.

    :raises ValueError: one of several hosts is empty, or cannot be read.
    """
    scheme, colon, rest = url.partition("://")
    # SQLAlchemy 2.1 uses psycopg 3 for postgresql://, and does not accept postgres://. Both drivers read the same URLs,
    # and the variable may be that of an application which uses psycopg 3.
    if not colon or scheme not in ("postgres", "postgresql", "postgresql+psycopg", DRIVER):
        return url
    return f"{DRIVER}://{_with_hosts_in_query(rest)}"


def _with_hosts_in_query(rest: str) -> str:
    found = _LIBPQ.fullmatch(rest)
    if found is None or re.search(r"(^|&)(host|port)=", found["query"] or ""):
        return rest
    hosts = [_host_and_port(text, number) for number, text in enumerate(found["hosts"].split(","), 1)]
    query = [f"host={quote(','.join(host for host, _ in hosts), safe='')}"]
    if any(port for _, port in hosts):
        query.append(f"port={quote(','.join(port for _, port in hosts), safe='')}")
    return f"{found['login']}{found['path'] or ''}?{'&'.join([*query, *filter(None, [found['query']])])}"


def _host_and_port(text: str, number: int) -> tuple[str, str]:
    found = _HOST.fullmatch(text)
    host = unquote(found["v6"] or found["name"] or "") if found else ""
    if found is None or not host or "," in host:
        raise ValueError(f"its host {number} is empty, or its port is no number: h1:5432,h2:5432 is expected")
    return host, found["port"] or ""


def place_text(url: URL) -> str:
    """The hosts and the name of a database, for people."""
    query = url.query
    given = query.get("host")
    if given is None:
        # After an unescaped @ in the password, its rest is parsed as a part of the host name.
        host = (url.host or "").rpartition("@")[2]
        hosts = [f"{host}{f':{url.port}' if url.port else ''}"] if host else []
    elif isinstance(given, str):
        ports = str(query.get("port") or "").split(",")
        ports = ports if len(ports) == given.count(",") + 1 else ports[:1] * (given.count(",") + 1)
        hosts = [f"{host}{f':{port}' if port else ''}" for host, port in zip(given.split(","), ports, strict=True)]
    else:
        hosts = list(given)
    return f"{','.join(hosts)}{'/' if hosts else ''}{url.database or ''}"
