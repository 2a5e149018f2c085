"""The numbers that a model may set: how large its bursts are, how fast it is sent, how long what was sent is kept."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy.orm import Mapper

from ..errors import SignalModelError

#: A hundred years.
MOST_KEEP_DAYS = 36_500


def keep_days_of(mapper: Mapper[Any], name: str) -> int | None:
    """For how many days a model keeps what was sent; None when it keeps nothing. Of subclasses that share its table,
    the longest.

    :param name: of the model, for messages.
    :raises SignalModelError: the number is none.
    """
    found = [_keep_days(one.class_, name) for one in mapper.self_and_descendants]
    return max((days for days in found if days is not None), default=None)


def _keep_days(model: type[Any], name: str) -> int | None:
    given = getattr(model, "signalbus_keep_days", None)
    if given is not None and (type(given) is not int or not 1 <= given <= MOST_KEEP_DAYS):
        raise SignalModelError(
            f"{name}.signalbus_keep_days is {given!r}. It must be an int from 1 to {MOST_KEEP_DAYS}: for how many days "
            "what was sent is kept in signalbus_sent; or None, to keep nothing."
        )
    return given


#: The number of signals in a burst when the model sets none. One is always safe, and slow.
DEFAULT_BURST_COUNT = 1


def burst_count_of(model: type[Any], name: str) -> int:
    burst_count = getattr(model, "signalbus_burst_count", DEFAULT_BURST_COUNT)
    if type(burst_count) is not int or burst_count < 1:
        raise SignalModelError(
            f"{name}.signalbus_burst_count is {burst_count!r}. It must be an int above zero: the number of signals "
            "that are sent and deleted in one transaction."
        )
    return burst_count


def max_rate_of(model: type[Any], name: str) -> float | None:
    given = getattr(model, "signalbus_max_rate", None)
    if given is None:
        return None
    if type(given) not in (int, float) or not 0 < given < math.inf:
        raise SignalModelError(
            f"{name}.signalbus_max_rate is {given!r}. It must be a number above zero: the most signals that a relay "
            "sends in a second; or None."
        )
    return float(given)
