"""What is kept of the signals of a burst beside their rows: where their messages went, and under which ids."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..failures import raise_if_stop
from ..model.sending.sent_messages import SentMessage, SentMessages
from ..sql.rows import Row
from ..sql.sent.move import NOTHING_KNOWN, Kept

logger = logging.getLogger("signalbus")


def known_of(messages: SentMessages, signals: Iterable[Any], rows: Mapping[int, Row]) -> dict[str, Kept]:
    """What is kept of these signals beside their rows, by the ids of these.

    :param rows: by the identity of the signal.
    """
    known: dict[str, Kept] = {}
    for signal in signals:
        try:
            kept = _kept(messages.of(signal))
        except BaseException as error:
            # The messages were sent; what is not known of them must not be in the way.
            raise_if_stop(error)
            logger.debug("The messages of a signal cannot be named.", exc_info=True)
            kept = NOTHING_KNOWN
        for one in rows[id(signal)].ids:
            known[one] = kept
    return known


def _kept(messages: Sequence[SentMessage]) -> Kept:
    if not messages:
        return NOTHING_KNOWN
    first, *others = messages
    if not others:
        return Kept(_text(first[0]), _text(first[1]), _text(first[2]), None)
    more = [{name: _text(value) for name, value in one._asdict().items()} for one in others]
    return Kept(_text(first[0]), _text(first[1]), _text(first[2]), json.dumps(more))


def _text(value: str | None) -> str | None:
    """A text that PostgreSQL can store."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", " ").encode(errors="backslashreplace").decode()
