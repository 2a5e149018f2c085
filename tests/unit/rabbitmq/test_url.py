"""Where the broker is, as a URL says it."""

from __future__ import annotations

import pytest

from signalbus_core import SetupError
from signalbus_core.rabbitmq.amqp.url import HEARTBEAT_SECONDS, TCP_OPTIONS, BrokerLocation


def test_limits_of_connection_are_set_and_those_of_url_win() -> None:
    plain = BrokerLocation("amqp://guest:secret@host/").parameters(3.0)
    assert (plain.heartbeat, plain.tcp_options, plain.socket_timeout) == (HEARTBEAT_SECONDS, TCP_OPTIONS, 3.0)
    url = "amqp://guest:secret@host/?heartbeat=7&tcp_options={'TCP_USER_TIMEOUT':2000}"
    own = BrokerLocation(url).parameters(3.0)
    assert own.heartbeat == 7
    assert own.tcp_options == {**TCP_OPTIONS, "TCP_USER_TIMEOUT": 2000}


def test_a_location_is_never_shown_with_its_password() -> None:
    location = BrokerLocation("amqp://guest:secret@host:5673/a%2Fb")
    assert str(location) == "amqp://guest@host:5673/a%2Fb"
    assert "secret" not in repr(location)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host/",
        "amqp://",
        "amqp://guest:secret@host:port/",
        "amqp://guest:secret@[::1/",
        "amqp://guest:secret\u2100@host/",
    ],
)
def test_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SetupError) as raised:
        BrokerLocation(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
