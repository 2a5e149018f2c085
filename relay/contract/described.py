"""What is known of the messages of one signal: the unit of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The parts of a description that may be sampled.
ROUTE, CONTENT, HEADERS, PAYLOAD = "route", "content", "headers", "payload"


@dataclass(frozen=True)
class Described:
    """The messages of one signal that have one type, exchange and routing key.

    :param signal: the name of its model.
    :param kind: the property ``type`` of the messages.
    :param exchange: None when it is not known.
    :param routing_key: a part in braces stands for what differs from signal to signal. None when it is not known.
    :param content_type: None when it is not known.
    :param headers: the schema of the headers; None when it is not known.
    :param payload: the schema of the bodies; None when it is not known.
    :param sampled: the parts that were found in pending signals. The others are declared by the model.
    :param sends_itself: the model has a send method of its own, so nothing is known of its messages.
    """

    signal: str
    kind: str
    exchange: str | None = None
    routing_key: str | None = None
    content_type: str | None = None
    headers: Mapping[str, Any] | None = None
    payload: Mapping[str, Any] | None = None
    sampled: frozenset[str] = frozenset()
    sends_itself: bool = False

    @property
    def order(self) -> tuple[str, ...]:
        """By which descriptions are sorted."""
        return (self.signal, self.kind, self.exchange or "", self.routing_key or "", self.content_type or "")

    @property
    def has_route(self) -> bool:
        return self.exchange is not None and self.routing_key is not None
