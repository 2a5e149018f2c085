"""Which of several addresses accept a TCP connection: the cheapest way to learn that a server is back.

All are tried at once. Nothing is sent: a server that does not listen refuses without any work.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

#: A host with its port; a host that begins with a slash is the directory of PostgreSQL's Unix socket.
Address = tuple[str, int]

NO_ANSWER = "no answer in time"

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN)


def first_listening(addresses: Sequence[Address], timeout_seconds: float) -> tuple[Address | None, dict[Address, str]]:
    """Connect to all addresses until one accepts, and close again.

    :returns: the first that accepted, None when none did in time; and why others did not, as far as is known by then.
    """
    deadline = time.monotonic() + timeout_seconds
    problems = dict.fromkeys(addresses, NO_ANSWER)
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for address in problems:
            try:
                places = _places(address)
            except (OSError, UnicodeError) as error:
                problems[address] = f"the host name cannot be resolved: {getattr(error, 'strerror', None) or error}"
                continue
            for family, place in places:
                connection = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
                connection.setblocking(False)
                if (code := connection.connect_ex(place)) == 0:
                    return address, _known(problems)
                if code in _UNDER_WAY:
                    selector.register(connection, selectors.EVENT_WRITE, address)
                else:
                    problems[address] = _text(code)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                connection = key.fileobj  # type: ignore[assignment]
                selector.unregister(connection)
                if (code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                    return key.data, _known(problems)
                problems[key.data] = _text(code)
    return None, problems


def _places(address: Address) -> list[tuple[int, Any]]:
    host, port = address
    if host.startswith("/"):
        return [(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")]
    return [(family, place) for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _text(code: int) -> str:
    text = os.strerror(code)
    return f"nothing listens there: {text}" if code == errno.ECONNREFUSED else text


def _known(problems: dict[Address, str]) -> dict[Address, str]:
    return {address: problem for address, problem in problems.items() if problem != NO_ANSWER}
