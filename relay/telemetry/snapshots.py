"""What readers of the status get: frozen values of one moment."""

from __future__ import annotations

from dataclasses import dataclass

from signalbus_core.lowlevel import BlockedKey

from .events import Condition, Doing, Failure


@dataclass(frozen=True)
class WorkerStatus:
    """What a worker does.

    :param signals: how many signals it sends at the moment.
    :param seconds: for how long it has been doing that.
    """

    name: str
    doing: Doing
    model: str | None = None
    signals: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Gauge:
    """The last measurement of a model, with its time by the wall clock."""

    backlog: int
    lag_seconds: float
    at: float
    waiting: int = 0
    parked: int = 0
    blocked_keys: int = 0
    blocked_by: tuple[BlockedKey, ...] = ()
    scheduled: int = 0


NOT_MEASURED = Gauge(0, 0.0, 0.0)


@dataclass(frozen=True)
class ModelStatus:
    """What is known of a signal model.

    :param gauge: None before the first measurement, and while the table cannot be read.
    :param counts: signals sent in each bucket of the last minutes, oldest first.
    :param sent: since the relay started.
    :param sent_at: when signals were sent last, by the wall clock.
    :param unread: why its table cannot be read; None when it can.
    :param is_failing: whether all signals failed in the last burst of new ones that had an end; None before the first.
    :param failure: why signals fail that were tried for the first time, until others are sent.
    """

    name: str
    gauge: Gauge | None
    counts: tuple[int, ...]
    per_second: float
    sent: int
    sent_at: float | None
    paused: Paused | None = None
    unread: Unread | None = None
    is_failing: bool | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Unread:
    """The table of a model cannot be read.

    :param is_alone: the table is at fault; otherwise its whole database.
    :param since: by the wall clock.
    """

    reason: str
    is_alone: bool
    since: float


@dataclass(frozen=True)
class Paused:
    """A pause of a model.

    :param seen_at: since when the relay has known of it, by the wall clock.
    :param reason: empty when none was given.
    """

    seen_at: float
    reason: str


@dataclass(frozen=True)
class Dependency:
    """The state of a database or a broker, or of all together, and why, when it is not up.

    :param since: when it became usable or unusable, by the wall clock.
    :param told: which of all tellings this was: a larger number is newer.
    """

    condition: Condition
    reason: str | None = None
    since: float = 0.0
    told: int = 0

    @property
    def is_usable(self) -> bool:
        return self.condition in ("up", "unused")


@dataclass(frozen=True)
class Stopped:
    """Why signals do not flow.

    :param action: that of the log lines about it.
    :param since: by the wall clock.
    """

    action: str
    reason: str
    since: float
