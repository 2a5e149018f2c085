"""A fault: what is done to the world, what is right meanwhile, and what it may cost."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .application import BURST_COUNT
from .relays import WORKERS

if TYPE_CHECKING:
    from .world import World

#: A fault does its work up to its ``yield``, which is where it lasts, and heals after it.
Act = Callable[["World", random.Random], Iterator[None]]

RELAYS = 2


@dataclass(frozen=True)
class Fault:
    """One row of the table of faults.

    :param name: what the table shows.
    :param about: what is right, where that is not obvious.
    :param says: what ``/readyz`` of each relay has to say while the fault lasts; None for a fault that is over before
      it can be asked, or shorter than the limits that make a silence an outage.
    :param lasts: for how long, once readiness has told of it, in seconds from and to.
    :param relays: how many relays it may interrupt in their bursts.
    :param interruptions: how often it may do so, however long it lasts.
    :param most_often: at most so often one message may come; None where that follows from the interruptions.
    :param errors: log actions that may be errors.
    :param weight: how often the long form picks it.
    :param recovery_seconds: at most so long from its end to the arrival of a signal that is written then.
    """

    name: str
    act: Act
    about: str = ""
    says: str | None = None
    lasts: tuple[float, float] = (0.3, 1.0)
    relays: int = RELAYS
    interruptions: int = 1
    most_often: int | None = None
    errors: frozenset[str] = frozenset()
    weight: float = 1.0
    recovery_seconds: float = 60.0

    @property
    def duplicates_bound(self) -> int:
        """The bursts in flight: burst count x messages of a signal (one) x workers."""
        return BURST_COUNT * WORKERS * self.relays * self.interruptions

    @property
    def most_often_bound(self) -> int:
        """Once, and once more for each time that a relay may be interrupted with it."""
        return 1 + self.relays * self.interruptions if self.most_often is None else self.most_often

    def lasting(self, world: World, chance: random.Random) -> contextlib.AbstractContextManager[None]:
        return contextlib.contextmanager(self.act)(world, chance)
