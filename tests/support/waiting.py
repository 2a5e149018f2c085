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

    :raises AssertionError: it was not true in time.
    """
    deadline = time.monotonic() + timeout_seconds
    tick = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not so within {timeout_seconds:g} s: {message or condition}; last: {value!r}")
        tick.wait(every_seconds)
