"""Requests and responses. Invariant: requests are checked here, so that handlers get only valid texts.

Every response has the same headers; none has a traceback.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from ..telemetry.log_format import redacted

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: The largest body of a request.
MOST_BODY_BYTES = 64 * 1024

#: The largest number of fields of a form or a query.
MOST_FIELDS = 20

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


class HttpError(Exception):
    """The request cannot be served; the text says why.

    :param headers: of the response.
    """

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True)
class Answer:
    """A response."""

    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(
    content: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Answer:
    """A JSON response. Passwords in URLs are removed from all texts."""
    return Answer((json.dumps(redacted(content), indent=2) + "\n").encode(), JSON, status, headers or {})


@dataclass(frozen=True)
class Request:
    """A request."""

    environ: WSGIEnvironment

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    @property
    def path(self) -> str:
        return str(self.environ.get("PATH_INFO", ""))

    @property
    def address(self) -> str:
        return str(self.environ.get("REMOTE_ADDR", "unknown"))

    def header(self, name: str) -> str | None:
        value = self.environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        return None if value is None else str(value)

    def query(self) -> dict[str, str]:
        """The fields of the query string."""
        return _fields(str(self.environ.get("QUERY_STRING", "")), "query")

    def fields(self, content_type: str) -> dict[str, Any]:
        """The fields of the body.

        :param content_type: the required one.
        """
        given = str(self.environ.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower()
        if given != content_type:
            raise HttpError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The body must be {content_type}.")
        try:
            text = self._body().decode("utf-8")
        except UnicodeDecodeError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "The body is not UTF-8.") from None
        return _object(text) if content_type == JSON else _fields(text, "form")

    def _body(self) -> bytes:
        length = str(self.environ.get("CONTENT_LENGTH") or "0")
        if not (length.isascii() and length.isdigit()):
            raise HttpError(HTTPStatus.BAD_REQUEST, "The Content-Length is no number.")
        if len(length) > 9 or int(length) > MOST_BODY_BYTES:
            raise HttpError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body may have no more than {MOST_BODY_BYTES} bytes."
            )
        body: bytes = self.environ["wsgi.input"].read(int(length))
        return body


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise HttpError(HTTPStatus.BAD_REQUEST, "The body is not JSON.") from None
    if not isinstance(content, dict):
        raise HttpError(HTTPStatus.BAD_REQUEST, "The body must be a JSON object.")
    return content


def _fields(text: str, what: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"The {what} cannot be read.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise HttpError(HTTPStatus.BAD_REQUEST, f"The {what} names a field twice.")
    return fields
