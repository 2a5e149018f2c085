"""Which signal model a free worker takes next. Pure: the time is passed in, locking is the caller's.

A model with work is never passed over for ever: the one whose last turn is the longest ago comes first. A model that
failed waits for its time and holds up no other. A paused model gets no turn; what is known of its work is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

#: A worker that is busy with a model for so long does not keep others from it. Longer: a send method that hangs holds
#: up its model for longer; shorter: workers take locks side by side where one would do.
SLOW_TURN_SECONDS = 5.0


@dataclass
class _Entry:
    #: Something was found that no worker has looked at yet.
    found: bool = False
    #: The last burst was full, so there is more: several workers may take the model at once.
    more: bool = False
    working: int = 0
    not_before: float = 0.0
    last_turn: int = 0
    taken_at: float = 0.0
    paused: bool = False

    @property
    def ready_at(self) -> float | None:
        """When the next worker may take the model; None while nothing is known of work, and while it is paused."""
        if self.paused:
            return None
        if self.more or (self.found and not self.working):
            return self.not_before
        return max(self.not_before, self.taken_at + SLOW_TURN_SECONDS) if self.found else None


class Schedule:
    """The turns of the signal models.

    :param names: the names of all models.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._entries = {name: _Entry() for name in names}
        self._turn = 0

    def found(self, names: Iterable[str]) -> None:
        """Note that these models have something to send."""
        for name in names:
            self._entries[name].found = True

    def set_paused(self, names: Collection[str]) -> None:
        """Give nobody these models, and any other again."""
        for name, entry in self._entries.items():
            entry.paused = name in names

    def take(self, now: float) -> str | None:
        """Give a model to a worker: of those with work whose time has come, the one that waited longest for its turn.

        The worker must :meth:`give_back` it.
        """
        ready = [
            (entry.last_turn, name)
            for name, entry in self._entries.items()
            if entry.ready_at is not None and entry.ready_at <= now
        ]
        if not ready:
            return None
        name = min(ready)[1]
        entry = self._entries[name]
        self._turn += 1
        entry.last_turn = self._turn
        entry.working += 1
        entry.taken_at = now
        entry.found = False
        return name

    def give_back(self, name: str, *, more: bool) -> None:
        """End a worker's turn.

        :param more: the burst was full; the next follows at once.
        """
        entry = self._entries[name]
        entry.working -= 1
        entry.more = more

    def hold(self, name: str, until: float) -> None:
        """Give the model to nobody before ``until``. What it has to send is not forgotten."""
        entry = self._entries[name]
        entry.not_before = until
        entry.more = False
        entry.found = True

    def next_time(self) -> float | None:
        """When the first of the models that have work may be taken; None when none has."""
        return min((entry.ready_at for entry in self._entries.values() if entry.ready_at is not None), default=None)

    @property
    def is_busy(self) -> bool:
        """A worker is at work."""
        return any(entry.working for entry in self._entries.values())

    @property
    def is_idle(self) -> bool:
        """No model that may be taken has work that is known, and no worker is at work."""
        return not any(
            entry.working or (not entry.paused and (entry.found or entry.more)) for entry in self._entries.values()
        )
