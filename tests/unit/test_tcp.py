"""Which addresses accept a TCP connection, whatever resolving names and opening sockets does."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from signalbus_core import tcp
from signalbus_core.tcp import Address, first_listening
from tests.support.clock import Clock


@pytest.fixture
def listening() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[:2]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *places: tuple[int, Any], clock: Clock | None = None) -> None:
    """Let each host have these addresses, and each lookup last for 3 s."""

    def getaddrinfo(*_args: object, **_kwargs: object) -> list[Any]:
        if clock is not None:
            clock.now += 3.0
        return [(family, socket.SOCK_STREAM, 0, "", place) for family, place in places]

    monkeypatch.setattr(tcp.socket, "getaddrinfo", getaddrinfo)


def test_after_slow_lookups_nothing_is_said_of_a_host(monkeypatch: pytest.MonkeyPatch, listening: Address) -> None:
    clock = Clock()
    monkeypatch.setattr(tcp.time, "monotonic", clock)
    resolve_to(monkeypatch, (socket.AF_INET, listening), clock=clock)
    assert first_listening([("one", 1), ("two", 2), ("three", 3)], 1.0) == (None, {})
    assert clock.now == 3.0, "the lookups of further hosts are not waited for"


def test_the_time_limit_begins_after_the_lookups(monkeypatch: pytest.MonkeyPatch, listening: Address) -> None:
    clock = Clock()
    monkeypatch.setattr(tcp.time, "monotonic", clock)
    resolve_to(monkeypatch, (socket.AF_INET, listening), clock=clock)
    assert first_listening([("one", 1)], 3.0) == (("one", 1), {})


def test_an_address_family_that_is_not_supported_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, listening: Address
) -> None:
    real = socket.socket

    def open_socket(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, kind)

    resolve_to(monkeypatch, (socket.AF_INET6, ("::1", 1)), (socket.AF_INET, listening))
    monkeypatch.setattr(tcp.socket, "socket", open_socket)
    assert first_listening([("one", 1)], 30.0) == (("one", 1), {})


def test_without_a_selector_nothing_is_said_of_a_host(monkeypatch: pytest.MonkeyPatch, listening: Address) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    assert first_listening([listening], 30.0) == (None, {})


def test_a_host_that_accepts_on_its_second_address_has_no_problem(
    monkeypatch: pytest.MonkeyPatch, listening: Address
) -> None:
    with socket.socket() as bound:
        # Bound, and not listening: it refuses.
        bound.bind(("127.0.0.1", 0))
        resolve_to(monkeypatch, (socket.AF_INET, bound.getsockname()), (socket.AF_INET, listening))
        assert first_listening([("one", 1)], 30.0) == (("one", 1), {})
