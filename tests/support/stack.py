"""The frames of the product on a call stack, at a failpoint of a burst."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from signalbus_core.burst import failpoints


def own_frames(frame: FrameType | None) -> list[str]:
    """The functions of the library and of the relay from this frame outwards, innermost first, without failpoints."""
    found: list[str] = []
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] in ("signalbus_core", "relay") and module != failpoints.__name__:
            found.append(f"{module}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found


@contextmanager
def deepest_at_failpoints() -> Iterator[dict[str, list[str]]]:
    """The longest stack of the product at each failpoint that is passed in the block."""
    stacks: dict[str, list[str]] = {}

    def note(place: str) -> None:
        stack = own_frames(sys._getframe())
        stacks[place] = max(stacks.get(place, []), stack, key=len)

    failpoints.switch_on(note)
    try:
        yield stacks
    finally:
        failpoints.switch_on(None)
