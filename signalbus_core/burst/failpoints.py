"""Failpoints: places in a burst at which a test may stop, kill or fail the process. Otherwise they do nothing.

Each lies between two steps of the burst. Only code can switch them on: no option, environment variable or message can.
"""

from __future__ import annotations

from collections.abc import Callable

#: All failpoints, in the order in which a burst passes them.
PLACES = (
    "begin",  # nothing is done yet
    "locked",  # the signals are locked and loaded
    "publishing",  # some of the burst's messages were written to the connection
    "awaiting",  # the broker has answered for some message
    "confirmed",  # the send method has returned
    "deleted",  # the signals are deleted; nothing is committed
    "committed",  # the database has confirmed the commit; nothing is counted
)

_handler: Callable[[str], object] | None = None


def switch_on(handler: Callable[[str], object] | None) -> None:
    """Call ``handler`` with the name of each failpoint that is passed; None switches all of them off."""
    global _handler
    _handler = handler


def failpoint(place: str) -> None:
    """Pass a failpoint."""
    if _handler is not None:
        _handler(place)
