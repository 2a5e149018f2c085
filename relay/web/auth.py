"""Access control for reading and for actions. There are no cookies: each action carries the operator's token.

Invariant: a foreign page in an operator's browser can neither read (the Host header is checked, against DNS rebinding)
nor act (it does not know the token, and its origin is refused).
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, Unauthorized

from ..telemetry.incidents import Incidents

logger = logging.getLogger("signalbus.relay.http")

NO_TOKEN = (
    "Nothing can be done here, because the relay has no operator token. Give it one with the variable "
    "SIGNALBUS_RELAY_OPERATOR_TOKEN or SIGNALBUS_RELAY_OPERATOR_TOKEN_FILE, or use the command signalbus-relay."
)

_TOKEN = "Operator token"

WRONG_TOKEN = "The operator token is missing or wrong."


class MisdirectedRequest(HTTPException):
    """The relay is not known under the name that the request gives it."""

    code = 421
    description = "The relay is not known under this name. Name it with --http-hosts."


class Guard:
    """Checks requests.

    :param token: the operator's token; without one no action is allowed.
    :param hosts: the allowed names in the Host header, beside ``localhost`` and addresses; when empty, a relay that
      listens not only on loopback allows all.
    :param is_local: it listens on the loopback interface only.
    """

    def __init__(self, token: str | None, hosts: Sequence[str] = (), *, is_local: bool = True) -> None:
        self._token = token
        self._hosts = frozenset(_host_name(host) or host.lower() for host in hosts)
        self._accepts_any = not is_local and not hosts
        self._incidents = Incidents(logger)

    @property
    def has_token(self) -> bool:
        """Whether actions are possible at all."""
        return self._token is not None

    def check_host(self, request: Request) -> None:
        """Refuse host names that a foreign DNS server may resolve to this address."""
        host = request.headers.get("Host")
        if host is None:
            # Load balancers may send no Host header; browsers always do.
            return
        name = _host_name(host)
        if name is None:
            raise BadRequest("The Host header cannot be read.")
        if self._accepts_any or name in self._hosts or name == "localhost" or _is_address(name):
            return
        raise MisdirectedRequest

    def check_origin(self, request: Request) -> None:
        """Refuse requests of foreign pages."""
        origin = request.headers.get("Origin")
        if origin is None:
            # Browsers that send no Origin state in Sec-Fetch-Site whether the page is of this site.
            is_ours = request.headers.get("Sec-Fetch-Site") in (None, "same-origin", "none")
        else:
            is_ours = origin.lower().partition("://")[2] == (request.headers.get("Host") or "").lower() != ""
        if not is_ours:
            raise Forbidden("This was sent by a page of another site.")

    def check_bearer(self, request: Request) -> None:
        """Check the token in the Authorization header."""
        scheme, _, token = (request.headers.get("Authorization") or "").partition(" ")
        self.check_token(token.strip() if scheme.lower() == "bearer" else "", request)

    def check_token(self, given: str, request: Request) -> None:
        """Refuse all but the operator's token; refusals are logged at most once a minute."""
        if self._token is None:
            raise Forbidden(NO_TOKEN)
        # As bytes, and in constant time.
        if not hmac.compare_digest(given.encode(errors="replace"), self._token.encode()):
            tried = f"{request.remote_addr} gave no or a wrong one"
            self._incidents.raised(_TOKEN, "operator_refused", tried, path=request.path)
            raise Unauthorized(WRONG_TOKEN, www_authenticate=WWWAuthenticate("bearer", {"realm": "signalbus"}))


def _host_name(header: str) -> str | None:
    """The name in a Host header, without the port."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return name if name and parts.netloc == header and "@" not in header else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
