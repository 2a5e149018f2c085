"""Which signal model a free worker takes next. Pure: the time is passed in, locking is the caller's.

A model with work is never passed over for ever: the one whose last turn is the longest ago comes first. A model that
failed waits for its time and holds up no other. A paused model gets no turn; what is known of its work is kept.

A model whose turns are slow holds up no other either: it leaves a worker to those whose turns are not, and where all
workers are busy with slow turns all the same, the schedule asks for a spare one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

#: A worker that is busy with a model for so long does not keep others from it, and its model counts as slow. Longer: a
#: send method that hangs holds up its model for longer; shorter: workers take locks side by side where one would do.
SLOW_TURN_SECONDS = 5.0

#: So many workers are started beside the usual ones while some are slow, or hang. Each has a connection to the database
#: and one to the broker. More: more models may hang at once and hold up no other.
MOST_SPARE_WORKERS = 4


@dataclass
class Turn:
    """A worker's turn with a model.

    :param moved_at: when it began, or made progress last.
    :param is_sending: it has locked signals.
    """

    worker: str
    began_at: float
    moved_at: float
    is_sending: bool = False

    def is_slow(self, now: float) -> bool:
        return now - self.began_at >= SLOW_TURN_SECONDS


@dataclass
class _Entry:
    #: Something was found that no worker has looked at yet.
    found: bool = False
    #: The last burst was full, so there is more: several workers may take the model at once.
    more: bool = False
    turns: list[Turn] = field(default_factory=list)
    #: The turn that ended last had been slow.
    was_slow: bool = False
    not_before: float = 0.0
    last_turn: int = 0
    taken_at: float = 0.0
    paused: bool = False

    @property
    def ready_at(self) -> float | None:
        """When the next worker may take the model; None while nothing is known of work, and while it is paused."""
        if self.paused:
            return None
        if self.more or (self.found and not self.turns):
            return self.not_before
        return max(self.not_before, self.taken_at + SLOW_TURN_SECONDS) if self.found else None

    def is_ready(self, now: float) -> bool:
        return self.ready_at is not None and self.ready_at <= now

    def is_slow(self, now: float) -> bool:
        return self.was_slow or any(turn.is_slow(now) for turn in self.turns)


class Schedule:
    """The turns of the signal models.

    :param names: the names of all models.
    :param workers: how many workers take turns.
    """

    def __init__(self, names: Iterable[str], workers: int = 2) -> None:
        self._entries = {name: _Entry() for name in names}
        self._usual = workers
        self._workers = workers
        self._turn = 0

    def found(self, names: Iterable[str]) -> None:
        """Note that these models have something to send."""
        for name in names:
            self._entries[name].found = True

    def set_paused(self, names: Collection[str]) -> None:
        """Give nobody these models, and any other again."""
        for name, entry in self._entries.items():
            entry.paused = name in names

    def take(self, now: float, worker: str = "") -> str | None:
        """Give a model to a worker: of those with work whose time has come, the one that waited longest for its turn.

        The worker must :meth:`give_back` it.
        """
        ready = [(entry.last_turn, name) for name, entry in self._entries.items() if self._may_be_taken(entry, now)]
        if not ready:
            return None
        name = min(ready)[1]
        entry = self._entries[name]
        self._turn += 1
        entry.last_turn = self._turn
        entry.turns.append(Turn(worker, now, now))
        entry.taken_at = now
        entry.found = False
        return name

    def _may_be_taken(self, entry: _Entry, now: float) -> bool:
        return entry.is_ready(now) and (not entry.is_slow(now) or self._can_bear(entry, now))

    def _can_bear(self, entry: _Entry, now: float) -> bool:
        """Whether a worker can be had for a slow model."""
        if len(entry.turns) >= self._usual:
            return False
        turns = self._turns()
        leaves_one = self._workers - len(turns) > 1
        # Whoever has to wait then gets a spare worker at once.
        leaves_spare = self._can_have_spare and any(turn.is_slow(now) for turn in turns)
        # Without spares left, models that are slow and come to their end must not starve behind those that hang.
        shares_last = not entry.turns and not self._can_have_spare
        is_needed = not turns or all(one.is_slow(now) for one in self._entries.values())
        return leaves_one or leaves_spare or shares_last or is_needed

    def _turns(self) -> list[Turn]:
        return [turn for entry in self._entries.values() for turn in entry.turns]

    @property
    def _can_have_spare(self) -> bool:
        return self._workers < self._usual + MOST_SPARE_WORKERS

    def moved(self, name: str, now: float, worker: str = "") -> None:
        """Note that a worker's turn makes progress: it has locked signals, or some were answered for."""
        for turn in self._entries[name].turns:
            if turn.worker == worker:
                turn.moved_at, turn.is_sending = now, True

    def give_back(self, name: str, *, more: bool, now: float | None = None, worker: str = "") -> None:
        """End a worker's turn.

        :param more: the burst was full; the next follows at once.
        :param now: when; a turn of which it is not known was not slow.
        """
        entry = self._entries[name]
        turn = next(turn for turn in entry.turns if turn.worker == worker)
        entry.turns.remove(turn)
        entry.was_slow = now is not None and now - turn.began_at >= SLOW_TURN_SECONDS
        entry.more = more

    def hold(self, name: str, until: float) -> None:
        """Give the model to nobody before ``until``. What it has to send is not forgotten."""
        entry = self._entries[name]
        entry.not_before = until
        entry.more = False
        entry.found = True

    def next_time(self, now: float) -> float | None:
        """When the first of the models that have work may be taken; None when none may before something changes."""
        times = [entry.ready_at for entry in self._entries.values() if entry.ready_at is not None]
        if any(self._may_be_taken(entry, now) for entry in self._entries.values()):
            return min(times)
        # A model that leaves the last worker to others may get it once another turn is slow.
        times += [turn.began_at + SLOW_TURN_SECONDS for turn in self._turns()] if times else []
        return min((at for at in times if at > now), default=None)

    def turns(self) -> dict[str, list[Turn]]:
        """The turns of each model that workers are busy with."""
        return {name: list(entry.turns) for name, entry in self._entries.items() if entry.turns}

    def add_spare(self, now: float) -> bool:
        """Count one more worker, if a model waits while all are busy and one is slow; return whether it is so."""
        turns = self._turns()
        is_slow = len(turns) >= self._workers and any(turn.is_slow(now) for turn in turns)
        waits = any(entry.is_ready(now) and len(entry.turns) < self._usual for entry in self._entries.values())
        is_wanted = is_slow and waits and self._can_have_spare
        self._workers += is_wanted
        return is_wanted

    def remove_spare(self, now: float) -> bool:
        """Count one worker less, if the usual number are left beside those that are slow; return whether it is so."""
        is_spare = self._workers - sum(turn.is_slow(now) for turn in self._turns()) > self._usual
        self._workers -= is_spare
        return is_spare

    @property
    def is_idle(self) -> bool:
        """No model that may be taken has work that is known, and no worker is at work."""
        return not any(
            entry.turns or (not entry.paused and (entry.found or entry.more)) for entry in self._entries.values()
        )
