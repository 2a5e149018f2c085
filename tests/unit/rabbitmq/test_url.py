"""Where the broker is, as a URL says it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from signalbus_core import SetupError
from signalbus_core.rabbitmq.amqp.url import HEARTBEAT_SECONDS, TCP_OPTIONS, BrokerNode
from tests.support.certificates import make_certificates


def test_limits_of_connection_are_set_and_those_of_url_win() -> None:
    plain = BrokerNode("amqp://guest:secret@host/").parameters(3.0)
    assert (plain.heartbeat, plain.tcp_options, plain.socket_timeout) == (HEARTBEAT_SECONDS, TCP_OPTIONS, 3.0)
    url = "amqp://guest:secret@host/?heartbeat=7&tcp_options={'TCP_USER_TIMEOUT':2000}"
    own = BrokerNode(url).parameters(3.0)
    assert own.heartbeat == 7
    assert own.tcp_options == {**TCP_OPTIONS, "TCP_USER_TIMEOUT": 2000}


def test_a_node_is_never_shown_with_its_password() -> None:
    node = BrokerNode("amqp://guest:secret@host:5673/a%2Fb")
    assert str(node) == "amqp://guest@host:5673/a%2Fb"
    assert "secret" not in repr(node)


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
        BrokerNode(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("amqp://u:geh/eim@host/v", "/ as %2F"),
        ("amqp://u:geh#eim@host/v", "# as %23"),
        ("amqp://u:geh?eim@host/v", "? as %3F"),
        ("amqp://u:geh[eim@host/v", "[ as %5B"),
        ("amqp://u:12/geh@host/v", "/ as %2F"),
        ("amqp://u:12?geh@host/v", "? as %3F"),
        ("amqp://u:ge@h/e%im@host/v", "@ as %40, / as %2F, % as %25"),
    ],
)
def test_password_that_must_be_escaped_is_told_and_not_shown(url: str, advice: str) -> None:
    with pytest.raises(SetupError) as raised:
        BrokerNode(url)
    assert f"write {advice}" in str(raised.value)
    assert "geh" not in str(raised.value)


def test_file_for_tls_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    ca, cert, none, text = (tmp_path / name for name in ("ca.pem", "cert.pem", "none.pem", "text.pem"))
    text.write_text("no certificate")

    def why(**options: object) -> str:
        with pytest.raises(SetupError) as raised:
            BrokerNode(f"amqps://u:geheim@host/?ssl_options={quote(str({n: str(p) for n, p in options.items()}))}")
        return str(raised.value)

    assert f"(cafile: the file {none} cannot be read: No such file or directory)" in why(cafile=none)
    assert f"(ca_certs: the file {text} cannot be read: it is no certificate)" in why(ca_certs=text)
    assert f"(certfile: the file {none} cannot be read" in why(cafile=ca, certfile=none)
    assert f"(keyfile: the file {none} cannot be read" in why(cafile=ca, certfile=cert, keyfile=none)
    assert f"certfile {cert} and keyfile {ca} do not hold" in why(cafile=ca, certfile=cert, keyfile=ca)
