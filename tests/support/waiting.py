"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], timeout_seconds: float = 10.0, message: str = "", every_seconds: float = 0.02
) -> T:
    """Wait until ``condition()`` is true, and return what it returned.

    What takes long is asked for less and less often, because asking takes time from what is waited for: it is noticed
    by a twentieth of the time late at most.

    :raises AssertionError: it was not true in time.
    """
    began = time.monotonic()
    tick = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - began
        if waited >= timeout_seconds:
            raise AssertionError(f"not so within {timeout_seconds:g} s: {message or condition}; last: {value!r}")
        tick.wait(min(max(every_seconds, waited / 20), 5 * every_seconds))
