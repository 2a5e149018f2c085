"""What happens in the relay, as the working parts report it, and the listeners that it is reported to.

Workers, poller and notifiers call one method for each fact, and know none of the listeners. A listener overrides the
methods of those events that it needs. Invariant: an event is reported once, by the thread in which it happened, and
each listener has it when the call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from signalbus_core.lowlevel import BlockedKey, BurstResult

#: Of the database, or of the connection to a broker. ``unused``: there is no broker that the relay knows of.
Condition = Literal["up", "down", "blocked", "unknown", "unused"]

#: What a worker does.
Doing = Literal["starting", "idle", "locking", "sending", "waiting for the broker", "backing off", "stopped"]


@dataclass(frozen=True)
class HeldHorizon:
    """The vacuum horizon is held back, so that many dead rows cannot be removed.

    :param models: whose dead rows they are.
    :param holder: what holds it back, in words for people.
    :param remedy: what ends it.
    :param seconds: for how long so far.
    """

    models: tuple[str, ...]
    holder: str
    remedy: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Signals fail.

    :param error_class: of the first of the last that failed.
    :param reason: likewise.
    :param since: when the first failed after which none was sent, by the wall clock.
    """

    error_class: str
    reason: str
    since: float

    def __str__(self) -> str:
        return f"{self.error_class}: {self.reason}" if self.reason else self.error_class


class BurstSummary(Protocol):
    """What follows from a burst for its model, as far as listeners want to know it."""

    @property
    def more(self) -> bool:
        """The next burst follows at once."""

    @property
    def problem(self) -> str | None:
        """What is wrong with the model as a whole, for people; None when nothing is."""

    @property
    def recovered(self) -> bool:
        """Signals were sent, and nothing that is wrong with the model as a whole is known to last."""

    @property
    def is_scan(self) -> bool:
        """The burst was not a further try of signals that had failed."""


class Events:
    """The events. Nothing follows from those that a subclass does not override."""

    # Threads

    def progressed(self, thread: str) -> None:
        """A thread has made progress."""

    def worker_changed(self, worker: str, doing: Doing, model: str | None = None, signals: int | None = None) -> None:
        """What a worker does now; the same as before, perhaps."""

    def worker_retired(self, worker: str) -> None:
        """A spare worker has ended as intended."""

    def relay_changed(self, state: str) -> None:
        """The state of the process is ``starting``, ``running`` or ``draining``."""

    # Bursts

    def burst_ended(self, model: str, result: BurstResult, decision: BurstSummary) -> None:
        """A burst has ended and is committed."""

    def burst_interrupted(self, model: str, decision: BurstSummary, possible_duplicates: int = 0) -> None:
        """A database error, or a :class:`BurstError`, has ended a burst.

        :param possible_duplicates: signals that were sent, and may be sent again.
        """

    # Servers

    def broker_changed(self, worker: str, condition: Condition, reason: str | None = None, location: str = "") -> None:
        """The condition of a worker's connection to a broker; the same as before, perhaps."""

    def broker_connecting(self, worker: str, reason: str | None, location: str) -> None:
        """A worker has no connection to a broker, and tries now to open one. That lasts until a timeout, perhaps."""

    def broker_connected(self, worker: str, location: str, node: str) -> None:
        """A worker is connected to this node of a broker."""

    # Polls

    def database_polled(
        self, database: str, error: str | None, found: Collection[str] = (), cause: str = "poll"
    ) -> None:
        """A database has answered a poll, or has not, for this reason.

        :param found: its models that have something to send.
        :param cause: why it was polled.
        """

    def rung(self, models: Collection[str]) -> None:
        """Producers of these models have sent NOTIFY, and workers were told."""

    def backlog_measured(self, model: str, backlog: int, lag_seconds: float) -> None:
        """The backlog of a model, and the age of its oldest signal."""

    def blocked_counted(self, model: str, keys: int) -> None:
        """So many keys of an ordered model are held back by a signal that failed."""

    def blocked_named(self, model: str, keys: tuple[BlockedKey, ...]) -> None:
        """Which keys of an ordered model are held back, some of them by name."""

    def scheduled_counted(self, model: str, scheduled: int) -> None:
        """How many signals of a model are not due yet."""

    def failed_counted(self, model: str, waiting: int, parked: int) -> None:
        """How many failed signals a model has."""

    def failure_read(self, model: str, failure: Failure | None) -> None:
        """Why most of the signals of a model that wait for their next try have failed; None when none is waiting."""

    def model_paused(self, model: str, reason: str | None) -> None:
        """A model is paused, for a reason that may be empty; None: it was resumed."""

    def model_stuck(self, model: str, cause: str, reason: str | None) -> None:
        """The signals of a model do not flow. None: this cause is gone.

        :param cause: one of :data:`~relay.telemetry.incidents.STUCK`.
        """

    def model_unread(self, model: str, reason: str | None, *, is_alone: bool) -> None:
        """The table of a model cannot be read, for this reason. None: it can be read again.

        :param is_alone: the table is at fault; otherwise its whole database.
        """

    def dead_rows_counted(self, model: str, dead_rows: int) -> None:
        """How many dead rows the table of a model has."""

    def horizon_held(self, bind_key: str | None, held: HeldHorizon | None) -> None:
        """What holds back the vacuum horizon of a database; None when nothing does."""

    def history_checked(self, bind_key: str | None, problem: str | None) -> None:
        """Why what is sent from a database cannot be kept, or not for long; None when it can. Signals flow anyway."""

    # Incidents that no other listener needs

    def raised(self, thing: str, action: str, reason: str, signal: str | None = None) -> None:
        """Something is wrong with a thing, and perhaps was before.

        :param signal: the signal model that it is about, if it is about one.
        """

    def resolved(self, thing: str, action: str, signal: str | None = None) -> None:
        """Nothing is wrong with a thing, and perhaps nothing was."""


#: The names of all events.
EVENTS = tuple(name for name in vars(Events) if not name.startswith("_"))


class FanOut(Events):
    """Passes each event to those listeners that override it, in their order."""

    def __init__(self, *listeners: Events) -> None:
        for name in EVENTS:
            overriding = [one for one in listeners if getattr(type(one), name) is not getattr(Events, name)]
            setattr(self, name, partial(_call_all, [getattr(one, name) for one in overriding]))


def _call_all(methods: Sequence[Callable[..., None]], *args: Any, **kwargs: Any) -> None:
    for method in methods:
        method(*args, **kwargs)
