"""Whatever is asked, the answer is one that the relay means to give: never a 500, never without its headers."""

from __future__ import annotations

import json
import logging
import random
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.web.openapi import document
from relay.web.server import HttpServer
from tests.integration.worker.test_parked_signals import Outbox
from tests.support.fuzzing import fuzzed
from tests.support.operated_site import TOKEN, Operated
from tests.support.servers import Postgres
from tests.support.web import Reply, ask

PATHS = sorted(document()["paths"])

MEANT = {200, 400, 401, 403, 404, 405, 409, 413, 415, 421, 503}

FUZZED = fuzzed(30)

ANY_TEXT = st.text(max_size=30)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["model", "key", "all", "reason", "token", "limit", "offset"])
VALUES = ANY_TEXT | st.sampled_from(["Order", "1", TOKEN, "-1", "0", "200"])
FIELDS = st.dictionaries(NAMES | ANY_TEXT, VALUES, max_size=4)
BODIES = (
    st.binary(max_size=200)
    | st.dictionaries(NAMES, ANY_JSON | VALUES, max_size=4).map(lambda fields: json.dumps(fields).encode())
    | FIELDS.map(lambda fields: urlencode(fields, errors="replace").encode())
)
QUERIES = FIELDS.map(lambda fields: urlencode(fields, errors="replace")) | ANY_TEXT.map(
    lambda text: quote(text, errors="replace")
)
TYPES = st.sampled_from([None, "application/json", "application/x-www-form-urlencoded", "text/plain", ";", "a/b; c"])


@pytest.fixture(scope="module")
def operated(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    outbox = Outbox(postgres.create_database())
    yield Operated(outbox, tmp_path_factory.mktemp("record"))
    outbox.engine.dispose()


def is_as_it_should_be(reply: Reply) -> bool:
    assert reply.status in MEANT
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "Traceback" not in reply.text
    return True


@FUZZED
@given(
    path=st.sampled_from(PATHS) | ANY_TEXT.map(lambda text: f"/{text.encode(errors='replace').decode('latin-1')}"),
    method=st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]),
    query=QUERIES,
)
def test_any_question_gets_an_answer(operated: Operated, path: str, method: str, query: str) -> None:
    assert is_as_it_should_be(operated.ask(path, method, query=query))


@FUZZED
@given(path=st.sampled_from(PATHS), body=BODIES, content_type=TYPES, has_token=st.booleans())
def test_any_body_gets_an_answer(
    operated: Operated, path: str, body: bytes, content_type: str | None, has_token: bool
) -> None:
    headers: dict[str, Any] = {"authorization": f"Bearer {TOKEN}"} if has_token else {}
    assert is_as_it_should_be(operated.ask(path, "POST", body=body, content_type=content_type, **headers))


@FUZZED
@given(
    path=st.sampled_from(["/api/parked", "/api/pause", "/retry"]),
    headers=st.dictionaries(
        st.sampled_from(["host", "origin", "authorization", "sec_fetch_site"]),
        ANY_TEXT.map(lambda text: text.encode(errors="replace").decode("latin-1")),
        max_size=3,
    ),
)
def test_any_headers_get_an_answer(operated: Operated, path: str, headers: dict[str, str]) -> None:
    assert is_as_it_should_be(operated.ask(path, "POST", content_type="application/json", **headers))


def test_any_bytes_leave_the_server_alive(operated: Operated, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    server = HttpServer(operated.site, "127.0.0.1", 0)
    server.start()
    dice = random.Random(7)
    pieces = [
        *(b"GET / HTTP/1.1\r\n", b"POST /api/pause HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n", b"\0", b"\xff"),
        *(b"Content-Length: 5\r\n", b"Content-Length: -5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n"),
        *(
            b"0\r\n\r\n",
            b"X: " + b"y" * 5000 + b"\r\n",
            b" folded\r\n",
            b"Expect: 100-continue\r\n",
            b"HTTP/9.9",
            b"\n",
        ),
    ]
    try:
        for _ in range(150):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
                client.sendall(b"".join(dice.choices(pieces, k=dice.randint(1, 8))))
        assert ask(server.port, "/api/status").status == 200
    finally:
        server.close()
    assert "http_error" not in [vars(record).get("action") for record in caplog.records]
