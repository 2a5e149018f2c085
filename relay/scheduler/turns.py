"""What the scheduler knows of one model: its turns, and when the next one may begin. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field

from .ring_rate import STEP_SECONDS, Steps

#: A turn that takes so long is slow: another worker may take the same model. Longer: a send method that hangs delays
#: its model for longer; shorter: several workers lock rows of a model where one would do.
SLOW_TURN_SECONDS = 5.0


@dataclass
class Turn:
    """A worker's turn with a model.

    :param progress_at: when it made progress last, or began.
    :param is_sending: it has locked signals.
    """

    worker: str
    began_at: float
    progress_at: float
    is_sending: bool = False
    #: It was asked for by a NOTIFY, after which no poll is due.
    is_rung: bool = False

    def is_slow(self, now: float) -> bool:
        return now - self.began_at >= SLOW_TURN_SECONDS


@dataclass
class Entry:
    """A model. It is ready when it has known work and may have one more turn."""

    #: A poll has found signals, or a producer has sent NOTIFY, and no worker has taken the model since.
    found: bool = False
    is_rung: bool = False
    #: When the next turn is due although nothing is known to be pending.
    again_at: float | None = None
    #: When the next of its scheduled signals is due.
    due_at: float | None = None
    #: Its producers send no NOTIFY: it has turns in short steps.
    steps: Steps | None = None
    #: The last burst was full, so there is more: several workers may take the model at once.
    more: bool = False
    turns: list[Turn] = field(default_factory=list)
    #: The last turn that ended was slow.
    was_slow: bool = False
    not_before: float = 0.0
    last_turn: int = 0
    taken_at: float = 0.0
    paused: bool = False
    #: Its database is away: what is known of its work is kept.
    away: bool = False

    def begin_turn(self, worker: str, number: int, now: float) -> None:
        # The turn sees what was committed until now, so what asked for it is done with before it begins.
        self.turns.append(Turn(worker, now, now, is_rung=self.is_rung or self.again_at is not None))
        self.last_turn, self.taken_at = number, now
        self.found = self.is_rung = False
        self.again_at = None
        if self.due_at is not None and self.due_at <= now:
            self.due_at = None

    def end_turn(self, worker: str, now: float, again_seconds: float | None, *, sent: bool) -> bool:
        """End a worker's turn; return whether the model has just become quiet."""
        turn = next(turn for turn in self.turns if turn.worker == worker)
        self.turns.remove(turn)
        self.was_slow = turn.is_slow(now)
        if turn.is_rung and again_seconds is not None:
            self.again_at = now + again_seconds
        if self.steps is None:
            return False
        self.again_at = max(now, turn.began_at + STEP_SECONDS)
        return self.steps.ended(found=sent)

    @property
    def ready_at(self) -> float | None:
        """When the next worker may take the model; None without known work, while paused, or its database away."""
        if self.paused or self.away:
            return None
        if self.more:
            return self.not_before
        times = [self.again_at] if self.again_at is not None and not self.turns else []
        known = [0.0] if self.found else []
        known += [] if self.due_at is None else [self.due_at]
        if known:
            # While another worker has a turn, it takes them.
            times.append(max(min(known), self.taken_at + SLOW_TURN_SECONDS if self.turns else 0.0))
        return max(self.not_before, min(times)) if times else None

    def is_ready(self, now: float) -> bool:
        return self.ready_at is not None and self.ready_at <= now

    def is_slow(self, now: float) -> bool:
        return self.was_slow or any(turn.is_slow(now) for turn in self.turns)
