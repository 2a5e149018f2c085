"""Under which names the relay may be asked, and whose token and origin count."""

from __future__ import annotations

import pytest
from flask import Request
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from relay.config.values import HttpAddress
from relay.web.auth import Guard

TOKEN = "0123456789abcdef"


def asked(**headers: str) -> Request:
    return Request({f"HTTP_{name.upper()}": value for name, value in headers.items()})


def is_known(guard: Guard, host: str) -> bool:
    try:
        guard.check_host(asked(host=host))
    except HTTPException:
        return False
    return True


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9109", "127.0.0.1:9109", "[::1]:9109", "10.1.2.3", "[::1]"])
def test_addresses_and_localhost_are_always_known(host: str) -> None:
    assert is_known(Guard(None), host)
    assert is_known(Guard(None, ["relay.internal"], is_local=False), host)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:9109", "relay", "0"]
)
def test_name_that_somebody_may_have_made_point_here_is_refused(host: str) -> None:
    assert not is_known(Guard(None), host)
    assert not is_known(Guard(None, ["relay.internal"], is_local=False), host)


@pytest.mark.parametrize(
    "host", ["", "a b", "user@localhost", "localhost:port", "localhost/x", "[::1", "localhost:", "\xff"]
)
def test_a_host_that_cannot_be_read_is_refused(host: str) -> None:
    assert is_known(Guard(None), host) == (host == "localhost:")


def test_names_that_are_given_are_known_and_nothing_else_is() -> None:
    guard = Guard(None, ["Relay.internal:9109"], is_local=False)
    assert is_known(guard, "relay.internal:9109")
    assert not is_known(guard, "other.internal")


def test_relay_that_listens_for_others_is_known_under_any_name() -> None:
    assert is_known(Guard(None, is_local=False), "signalbus-relay.shop.svc.cluster.local:9109")


def test_a_load_balancer_that_names_no_host_is_answered() -> None:
    Guard(None).check_host(asked())


@given(st.text(max_size=80).filter(lambda name: name.isprintable()))
def test_no_host_header_raises_anything_but_a_refusal(host: str) -> None:
    is_known(Guard(None), host)


@pytest.mark.parametrize(
    ("header", "is_right"),
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (f"Bearer  {TOKEN} ", True),
        (f"Basic {TOKEN}", False),
        (TOKEN, False),
        ("Bearer", False),
        ("", False),
        (f"Bearer {TOKEN} {TOKEN}", False),
        ("Bearer \xff\xff", False),
    ],
)
def test_only_the_token_itself_in_the_bearer_header_counts(header: str, is_right: bool) -> None:
    guard = Guard(TOKEN)
    if is_right:
        guard.check_bearer(asked(authorization=header))
    else:
        with pytest.raises(HTTPException, match="missing or wrong"):
            guard.check_bearer(asked(authorization=header))


@given(st.text())
def test_no_other_text_is_the_token(text: str) -> None:
    with pytest.raises(HTTPException):
        Guard(TOKEN).check_token(text + "x", asked())


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        *[("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)],
        *[("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("relay.internal", False)],
    ],
)
def test_only_the_loopback_interface_is_local(host: str, is_local: bool) -> None:
    assert HttpAddress(host, 0).is_loopback == is_local


def test_what_our_own_page_sends_is_accepted() -> None:
    guard = Guard(TOKEN)
    guard.check_origin(asked(host="127.0.0.1:9109", origin="http://127.0.0.1:9109"))
    guard.check_origin(asked(host="relay.internal", origin="https://Relay.internal"))
    guard.check_origin(asked(host="relay.internal", sec_fetch_site="same-origin"))
    guard.check_origin(asked(host="relay.internal"))


def test_who_tries_tokens_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(TOKEN)
    for _ in range(5):
        with pytest.raises(HTTPException):
            guard.check_token("wrong", Request({"REMOTE_ADDR": "192.0.2.7", "PATH_INFO": "/api/pause"}))
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "192.0.2.7 gave no or a wrong one" in record.getMessage()
