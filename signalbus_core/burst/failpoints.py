"""Places in a burst at which a test may stop, kill or fail the process. Without a test they do nothing.

Each lies between two steps that a fault may come between. They are switched on by code alone: no option, no environment
variable and no message reaches them.
"""

from __future__ import annotations

from collections.abc import Callable

#: All places, in the order in which a burst that sends something passes them.
PLACES = (
    "begin",  # nothing was done yet
    "locked",  # the signals are locked and loaded
    "publishing",  # a part of the burst's messages was handed to the connection
    "awaiting",  # the broker has answered for some message
    "confirmed",  # the send method has returned
    "deleted",  # the signals are deleted, and nothing is committed
    "committed",  # the database has answered the commit, and nothing is counted
)

_handler: Callable[[str], object] | None = None


def switch_on(handler: Callable[[str], object] | None) -> None:
    """Have ``handler`` called with the name of each place that is passed; None switches all of them off."""
    global _handler
    _handler = handler


def reach(place: str) -> None:
    """Pass a place."""
    if _handler is not None:
        _handler(place)
