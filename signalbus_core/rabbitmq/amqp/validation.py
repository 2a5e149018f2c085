"""Finds the invalid part of a message. The part is named; its value, which may be personal data, is never shown.

Invalid are values that cannot be encoded, values for which the broker would close the channel while other messages are
in flight, and values that would arrive changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pika import spec
from pika.spec import BasicProperties

#: The properties that are texts, of at most 255 bytes each in AMQP.
TEXT_PROPERTIES = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "message_id",
    "type",
    "user_id",
    "app_id",
    "cluster_id",
)

#: The properties that are numbers, and the range of each.
NUMBER_PROPERTIES = {
    "delivery_mode": "1 or 2",
    "priority": "a whole number from 0 to 255",
    "timestamp": "a whole number of seconds since 1970",
}

#: The longest expiration that RabbitMQ accepts, in milliseconds: ten years.
LONGEST_EXPIRATION_MILLISECONDS = 315_360_000_000

#: Headers with further routing keys. https://www.rabbitmq.com/docs/sender-selected
ROUTING_HEADERS = ("CC", "BCC")

#: Valid only on a channel that consumes from this pseudo-queue. https://www.rabbitmq.com/docs/direct-reply-to
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"

#: Where the properties begin in a header frame: after its type, channel, size, class, weight and body size.
PROPERTIES_OFFSET = 19


def value_fault(
    exchange: object, routing_key: object, properties: BasicProperties, frame: bytes, login: str
) -> str | None:
    """Name a value that can be encoded, but must not be sent; None when there is none.

    :param frame: the encoded properties, as a header frame.
    :param login: the user of the connection; the broker accepts no other ``user_id``.
    """
    # Bytes would arrive as text, and a returned message could not be matched.
    if not isinstance(exchange, str):
        return f"exchange: {_no_text(exchange)}"
    if not isinstance(routing_key, str):
        return f"routing_key: {_no_text(routing_key)}"
    for name in TEXT_PROPERTIES:
        value = getattr(properties, name)
        if value is not None and not isinstance(value, str):
            return f"{name}: {_no_text(value)}"
    if properties.delivery_mode not in (None, 1, 2):
        return f"delivery_mode: {NUMBER_PROPERTIES['delivery_mode']} expected"
    if properties.expiration is not None and not _is_expiration(properties.expiration):
        return "expiration: milliseconds as a text of digits expected, ten years at the most"
    if properties.user_id is not None and properties.user_id != login:
        return f"user_id: must be the login {login!r}"
    if properties.reply_to == DIRECT_REPLY_TO:
        return f"reply_to: {DIRECT_REPLY_TO} is for channels that consume from it, and this one only publishes"
    return None if properties.headers is None else _header_fault(properties.headers, frame)


def culprit(exchange: object, routing_key: object, properties: BasicProperties) -> str | None:
    """Name the part of a message that cannot be encoded; None when it cannot be found."""
    for name, value in (("exchange", exchange), ("routing_key", routing_key)):
        fault = _encoding_fault(lambda name=name, value=value: spec.Basic.Publish(**{name: value}).encode())
        if fault is not None:
            return f"{name}: {_describe(value, fault)}"
    for name in (*TEXT_PROPERTIES, *NUMBER_PROPERTIES):
        value = getattr(properties, name, None)
        fault = _encoding_fault(lambda name=name, value=value: BasicProperties(**{name: value}).encode())
        if fault is not None and name in NUMBER_PROPERTIES:
            return f"{name}: {NUMBER_PROPERTIES[name]} expected"
        if fault is not None:
            return f"{name}: {_describe(value, fault)}"
    headers = getattr(properties, "headers", None) or {}
    if not isinstance(headers, Mapping):
        return _no_dict(headers)
    for key, value in headers.items():
        fault = _encoding_fault(lambda key=key, value=value: BasicProperties(headers={key: value}).encode())
        if fault is not None:
            return f"{_header(key)}: {_describe_header(key, value, fault)}"
    return None


def _is_expiration(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= LONGEST_EXPIRATION_MILLISECONDS


def _header_fault(headers: Any, frame: bytes) -> str | None:
    """Check that the decoded headers equal the given ones: the encoder silently rounds, cuts and converts."""
    if not isinstance(headers, Mapping):
        return _no_dict(headers)
    for name in ROUTING_HEADERS:
        if name in headers and not isinstance(headers[name], list):
            return f"{_header(name)}: a list of routing keys expected, not {type(headers[name]).__name__}"
    arrived = BasicProperties().decode(frame, PROPERTIES_OFFSET).headers
    if _equal(arrived, headers):
        return None
    for key, value in headers.items():
        if key not in arrived:
            return f"{_header(key)}: {_no_text(key)} as its name"
        if not _equal(arrived[key], value):
            return f"{_header(key)}: a value of type {type(value).__name__} that would not arrive as it is"
    return "headers: they would not arrive as they are"


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # noqa: BLE001 - values of any type are compared here, and may refuse it in any way
        return False


def _encoding_fault(encode_part: Callable[..., object]) -> Exception | None:
    try:
        encode_part()
    except Exception as error:  # noqa: BLE001 - any of the encoder's errors means the same
        return error
    return None


def _describe(value: object, fault: Exception) -> str:
    if not isinstance(value, str):
        return _no_text(value)
    size = _size(value)
    return f"{size} bytes, and 255 is the most" if size > 255 else _describe_value(value, fault)


def _describe_header(key: object, value: object, fault: Exception) -> str:
    if not isinstance(key, str):
        return f"{_no_text(key)} as its name"
    size = _size(key)
    return f"{size} bytes in its name, and 255 is the most" if size > 255 else _describe_value(value, fault)


def _describe_value(value: object, fault: Exception) -> str:
    if isinstance(fault, UnicodeEncodeError):
        return "text that UTF-8 cannot encode"
    return f"a value of type {type(value).__name__} that cannot be encoded ({type(fault).__name__})"


def _size(text: str) -> int:
    return len(str.encode(text, "utf-8", "surrogatepass"))


def _no_text(value: object) -> str:
    return f"{type(value).__name__ if value is not None else None}, and a text is expected"


def _no_dict(headers: object) -> str:
    return f"headers: a dict expected, not {type(headers).__name__}"


def _header(key: object) -> str:
    return f"header {key[:100]!r}" if isinstance(key, str) else "header"
