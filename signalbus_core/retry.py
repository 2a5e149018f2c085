"""Run one transaction again when it lost a race: a serialization failure or a deadlock is nobody's fault.

Pure of any session: what is run, and how long to wait, is passed in.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from .errors import DBSerializationError

T = TypeVar("T")

#: SQLSTATE of a serialization failure and of a deadlock.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
RACE_CODES = frozenset({"40001", "40P01"})

#: How often a transaction is tried in all. More: hot rows succeed later instead of failing.
MOST_TRIES = 16

#: The longest wait before the second try; it doubles with each further try.
FIRST_WAIT_SECONDS = 0.01

#: The longest wait before any try.
LONGEST_WAIT_SECONDS = 1.0


def is_race(error: BaseException) -> bool:
    """Tell whether a transaction failed only because another one was faster."""
    if isinstance(error, DBSerializationError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    # psycopg2 calls it pgcode, other drivers sqlstate.
    code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None)
    return code in RACE_CODES


def retry_on_race(
    transaction: Callable[[], T],
    *,
    tries: int = MOST_TRIES,
    may_repeat: Callable[[], bool] = lambda: True,
    wait: Callable[[float], object] | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> T:
    """Run ``transaction`` until it does not lose a race; return what it returns.

    Between tries it waits, longer each time and for a random part of it, so that those who raced do not race again.

    :param transaction: must leave nothing behind when it raises.
    :param tries: how often to try in all.
    :param may_repeat: asked after a race was lost, whether to try again.
    :param wait: waits for a number of seconds.
    :raises DBSerializationError: a race was lost, and there may be no further try.
    :raises Exception: what the last try raised, or the first that is not a race.
    """
    wait = wait or threading.Event().wait
    for number in range(1, tries):
        try:
            return transaction()
        except Exception as error:
            if not is_race(error):
                raise
            if not may_repeat():
                raise DBSerializationError(
                    "The transaction lost a race. Executing it again would leave out what was changed or locked before "
                    "it began, or repeat what it committed itself."
                ) from error
        wait(uniform(0.0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0**number)))
    return transaction()
