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

#: What the functions of ``socket`` raise for an address that cannot be used.
_UNUSABLE = (OSError, ValueError, OverflowError)


def first_listening(addresses: Sequence[Address], timeout_seconds: float) -> tuple[Address | None, dict[Address, str]]:
    """Connect to all addresses until one accepts, and close again.

    Host names are resolved one after the other until ``timeout_seconds`` have passed, so all of it lasts at most twice
    as long and one lookup more. Where lookups took longer, nothing is tried: those addresses have no reason.

    :returns: the first that accepted, None when none did in time; and why others did not, as far as it is known.
    """
    places, problems = _resolved(dict.fromkeys(addresses), timeout_seconds)
    if not places:
        return None, problems
    try:
        with ExitStack() as stack, selectors.DefaultSelector() as selector:
            accepting = _first_accepting(places, problems, stack, selector, time.monotonic() + timeout_seconds)
            waiting = {key.data for key in selector.get_map().values()}
    except OSError:
        # No selector: this process has too many open files, perhaps. That tells nothing of the server.
        return None, {}
    if accepting is None:
        return None, problems | dict.fromkeys(waiting, NO_ANSWER)
    return accepting, {one: why for one, why in problems.items() if one != accepting and one not in waiting}


def _resolved(
    addresses: dict[Address, None], timeout_seconds: float
) -> tuple[list[tuple[Address, int, Any]], dict[Address, str]]:
    """Where to connect; and why hosts cannot be resolved. Nowhere, if lookups took too long."""
    deadline = time.monotonic() + timeout_seconds
    places, problems = [], {}
    for address in addresses:
        try:
            places += [(address, family, place) for family, place in _places(address)]
        except _UNUSABLE as error:
            problems[address] = f"the host name cannot be resolved: {getattr(error, 'strerror', None) or error}"
        if time.monotonic() > deadline:
            return [], problems
    return places, problems


def _first_accepting(
    places: Sequence[tuple[Address, int, Any]],
    problems: dict[Address, str],
    stack: ExitStack,
    selector: selectors.BaseSelector,
    deadline: float,
) -> Address | None:
    """The address that accepted first; why others do not is added to ``problems``."""
    for address, family, place in places:
        try:
            connection = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            connection.setblocking(False)
            code = connection.connect_ex(place)
            if code in _UNDER_WAY:
                selector.register(connection, selectors.EVENT_WRITE, address)
                continue
        except _UNUSABLE as error:
            problems[address] = getattr(error, "strerror", None) or str(error)
            continue
        if code == 0:
            return address
        problems[address] = _text(code)
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            connection = key.fileobj  # type: ignore[assignment]
            selector.unregister(connection)
            if (code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) == 0:
                return key.data  # type: ignore[no-any-return]
            problems[key.data] = _text(code)
    return None


def _places(address: Address) -> list[tuple[int, Any]]:
    host, port = address
    if host.startswith("/"):
        return [(socket.AF_UNIX, f"{host}/.s.PGSQL.{port}")]
    return [(family, place) for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _text(code: int) -> str:
    text = os.strerror(code)
    return f"nothing listens there: {text}" if code == errno.ECONNREFUSED else text
