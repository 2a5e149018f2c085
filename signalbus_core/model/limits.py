"""For how many days a model keeps what was sent, as it says itself."""

from __future__ import annotations

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
