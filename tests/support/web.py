"""Asking the relay's site: through sockets, or, for many requests, as a WSGI application."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator


@dataclass(frozen=True)
class Reply:
    """What was answered; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def ask(port: int, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
    """Ask through a socket."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        return Reply(
            response.status, {key.lower(): text for key, text in response.getheaders()}, response.read().decode()
        )
    finally:
        connection.close()


def call(
    app: Callable[..., Iterable[bytes]],
    path: str,
    method: str = "GET",
    body: bytes = b"",
    query: str = "",
    content_type: str | None = None,
    **headers: str,
) -> Reply:
    """Call the application as a server that keeps to WSGI does."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "REMOTE_ADDR": "192.0.2.7",
        "HTTP_HOST": "127.0.0.1:9109",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if content_type is not None:
        environ["CONTENT_TYPE"] = content_type
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    setup_testing_defaults(environ)
    answered: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
        answered[:] = [int(status.split()[0]), {key.lower(): value for key, value in headers}]
        return answered.append

    result = validator(app)(environ, start_response)
    try:
        text = b"".join(result).decode()
    finally:
        result.close()
    return Reply(answered[0], answered[1], text)
