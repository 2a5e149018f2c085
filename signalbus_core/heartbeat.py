"""Progress within a burst: said by whoever sends its signals, to whoever runs the burst.

A burst may take long and be well: what matters is whether broker or send method still answer. What is said in another
thread than the burst's is heard by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: A burst whose sending takes longer is halved; where signals are sent one by one, it ends there, and what was sent is
#: deleted. Longer: fewer and larger bursts on slow ways, nearer to the time limits of publishing (30 s) and of the idle
#: transaction (120 s), after which everything in it is sent again.
LONG_SEND_SECONDS = 10.0

_listening: ContextVar[Callable[[], object] | None] = ContextVar("signalbus_heartbeat", default=None)


@contextmanager
def hearing(on_beat: Callable[[], object] | None) -> Iterator[None]:
    """Have progress within the block reported to ``on_beat``, in the thread that makes it."""
    token = _listening.set(on_beat)
    try:
        yield
    finally:
        _listening.reset(token)


def beat() -> None:
    """Say that some signals, or messages, were answered."""
    on_beat = _listening.get()
    if on_beat is not None:
        on_beat()
