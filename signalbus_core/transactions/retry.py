"""Runs a transaction again after a serialization failure or a deadlock.

A transaction is repeated only if all of it was rolled back. The loop knows no session: what is run, and how to wait,
are arguments.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from ..errors import DBSerializationError
from ..failures import sqlstate

T = TypeVar("T")

#: SQLSTATE of a serialization failure and of a deadlock.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
RACE_CODES = frozenset({"40001", "40P01"})

#: How often a transaction is tried in all. More: transactions on contended rows succeed later instead of failing.
MOST_TRIES = 16

#: The longest wait before the second try; it doubles with each further try.
FIRST_WAIT_SECONDS = 0.01

#: The longest wait before any try.
LONGEST_WAIT_SECONDS = 1.0


def is_race(error: BaseException) -> bool:
    """Whether a transaction failed only because of a concurrent one."""
    if isinstance(error, DBSerializationError):
        return True
    return isinstance(error, DBAPIError) and sqlstate(error) in RACE_CODES


def retry_on_race(
    transaction: Callable[[], T],
    *,
    tries: int = MOST_TRIES,
    may_repeat: Callable[[], bool] = lambda: True,
    wait: Callable[[float], object] | None = None,
    uniform: Callable[[float, float], float] = random.uniform,
) -> T:
    """Run ``transaction`` until it does not lose a race; return what it returns.

    It waits between tries, with exponential backoff and jitter, so that the same transactions do not collide again.

    :param transaction: must leave no effects when it raises.
    :param tries: how often to try in all.
    :param may_repeat: called after a lost race; returns whether to try again.
    :param wait: waits for a number of seconds.
    :raises DBSerializationError: a race was lost, and no further try is allowed.
    :raises Exception: the error of the last try, or the first error that is not a race.
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
