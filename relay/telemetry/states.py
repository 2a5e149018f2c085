"""The state of a signal model, in one word with its reason. The page, the API, metrics and commands take it from here.

Invariant: the same facts give the same word, whoever has gathered them; what is not known makes no model look better.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..text import shell_word
from .health import DATABASE_AWAY, FLOW_WITHIN_SECONDS, Health
from .incidents import Incidents, single_signals
from .remedies import Remedy, remedy_for, remedy_of, without_remedy
from .snapshots import ModelStatus, Unread
from .status import Status

State = Literal["flowing", "idle", "behind", "blocked", "failing", "paused"]

STATES: tuple[State, ...] = get_args(State)

#: A backlog is counted up to this number, and a model with so many is behind. Larger: bigger backlogs are exact, and
#: counting them costs more.
BACKLOG_COUNTED_TO = 10_000


@dataclass(frozen=True)
class Cause:
    """Why a model is in its state.

    :param since: since when, by the wall clock; None when that is not known.
    :param remedy: what to do about it; None when nothing is to be done, or when the reason says it.
    :param error_class: of signals that fail.
    """

    reason: str
    since: float | None = None
    remedy: Remedy | None = None
    error_class: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model. None means: not known.

    :param backlog: the number of signals in its table.
    :param waiting: how many of them wait for their next try.
    :param parked: how many of them wait for a person.
    :param lag_seconds: the age of the oldest that is not parked.
    :param pause: its pause, whose reason may be empty; None when it is not paused.
    :param obstacle: why none of its signals can be sent, whatever they are.
    :param fault: why it fails as a whole.
    :param failure: why its signals fail.
    :param is_failing: the last signals that were tried for the first time all failed. Only relays know.
    :param is_sending: the first pending signals are seen to leave the table. Only who watches them knows.
    """

    backlog: int | None = None
    waiting: int | None = None
    parked: int | None = None
    lag_seconds: float | None = None
    pause: Cause | None = None
    obstacle: Cause | None = None
    fault: Cause | None = None
    failure: Cause | None = None
    is_failing: bool | None = None
    is_sending: bool | None = None

    @property
    def failed(self) -> int:
        return (self.waiting or 0) + (self.parked or 0)

    @property
    def pending(self) -> int:
        """How many signals have not failed."""
        return max(0, (self.backlog or 0) - self.failed)


@dataclass(frozen=True)
class ModelState:
    """The state of a model.

    :param word: None when it is not known.
    :param cause: why it is so, since when, and what to do; None for the states in which nothing is wrong.
    """

    word: State | None
    cause: Cause | None = None

    @property
    def reason(self) -> str | None:
        return (self.cause and self.cause.reason) or None

    @property
    def since(self) -> float | None:
        return None if self.cause is None else self.cause.since

    @property
    def remedy(self) -> Remedy | None:
        return None if self.cause is None else self.cause.remedy


def state_of(facts: ModelFacts) -> ModelState:
    """The first of these that is true: paused, blocked, failing, behind, flowing, idle."""
    if facts.pause is not None:
        return ModelState("paused", facts.pause)
    if facts.obstacle is not None:
        return ModelState("blocked", facts.obstacle)
    if facts.fault is not None:
        return ModelState("failing", facts.fault)
    if facts.backlog is None:
        return ModelState(None, Cause("not measured yet"))
    if facts.failed and _fails(facts):
        return ModelState("failing", _failing(facts, facts.backlog))
    if (behind := _behind(facts)) is not None:
        return ModelState("behind", behind)
    return ModelState("flowing" if facts.pending else "idle")


def _failing(facts: ModelFacts, backlog: int) -> Cause:
    text = f"{facts.failed:,} of {max(backlog, facts.failed):,} signals have failed"
    if facts.failure is None:
        return Cause(text, remedy=remedy_for("signals_set_aside", ""))
    return replace(facts.failure, reason=f"{facts.failure.reason} ({text})")


def pause_of(model: str, reason: str | None, since: float) -> Cause:
    """A pause as the cause of a model's state."""
    text = f"`signalbus-relay resume {shell_word(model)}` ends it."
    return Cause(reason or "", since, Remedy(text, "SignalbusPausedLong"))


def failure_of_signals(error_class: str, reason: str, since: float) -> Cause:
    """The failure of signals as the cause of a model's state."""
    return Cause(f"{error_class}: {reason}" if reason else error_class, since, remedy_of(error_class), error_class)


#: The failures whose cause is not in the signal: one alone tells of all that have its destination.
OF_DESTINATIONS = ("returned", "nacked", "refused")


def _fails(facts: ModelFacts) -> bool:
    # Parked signals are not tried, so that they say nothing about the others.
    if not facts.waiting or facts.is_sending or facts.is_failing is False:
        return False
    is_of_destination = facts.failure is not None and facts.failure.error_class in OF_DESTINATIONS
    if is_of_destination and (facts.is_failing or facts.is_sending is False):
        return True
    return facts.failed >= facts.pending and (facts.failed > 1 or is_of_destination)


def _behind(facts: ModelFacts) -> Cause | None:
    if (facts.backlog or 0) >= BACKLOG_COUNTED_TO:
        return Cause(f"{BACKLOG_COUNTED_TO:,} signals or more are pending", remedy=remedy_for("backlog", ""))
    # The oldest may be one that waits for its next try, while others are sent.
    if not facts.waiting and (facts.lag_seconds or 0.0) > FLOW_WITHIN_SECONDS:
        return Cause(f"the oldest signal has been waiting for {facts.lag_seconds:.0f} s", remedy=remedy_for("lag", ""))
    if facts.pending and facts.is_sending is False:
        return Cause("signals are pending, and none of them is being sent", remedy=remedy_for("lag", ""))
    return None


class ModelStates:
    """The states of a relay's models, from what its boards know."""

    def __init__(self, status: Status, health: Health, incidents: Incidents) -> None:
        self._status = status
        self._health = health
        self._incidents = incidents

    def of(self, name: str) -> ModelState:
        return self.of_known(self._status.model(name))

    def of_known(self, known: ModelStatus) -> ModelState:
        """The state of a model of which this is known."""
        return state_of(self._facts(known))

    def word(self, name: str) -> State | None:
        return self.of(name).word

    def _facts(self, known: ModelStatus) -> ModelFacts:
        gauge = known.gauge
        paused, failure = known.paused, known.failure
        return ModelFacts(
            backlog=gauge.backlog if gauge else None,
            waiting=gauge.waiting if gauge else None,
            parked=gauge.parked if gauge else None,
            lag_seconds=gauge.lag_seconds if gauge else None,
            pause=pause_of(known.name, paused.reason, paused.seen_at) if paused else None,
            obstacle=self._obstacle(known),
            fault=self._fault(known),
            failure=failure_of_signals(failure.error_class, failure.reason, failure.since) if failure else None,
            is_failing=known.is_failing,
        )

    def _obstacle(self, known: ModelStatus) -> Cause | None:
        if known.unread is not None:
            return _unread(known.unread)
        stopped = self._health.broker_problem() or self._health.stuck(known.name)
        if stopped is None:
            return None
        return Cause(without_remedy(stopped.reason), stopped.since, remedy_for(stopped.action, stopped.reason))

    def _fault(self, known: ModelStatus) -> Cause | None:
        # That single signals fail says nothing about the others: their numbers tell.
        told, lasting = single_signals(known.name), self._incidents.lasting().values()
        one = next((one for one in lasting if one.signal == known.name and one.thing != told), None)
        return None if one is None else Cause(without_remedy(one.reason), one.since, one.remedy)


def _unread(unread: Unread) -> Cause:
    if unread.is_alone:
        return Cause(without_remedy(unread.reason), unread.since, remedy_for("model_unread", unread.reason))
    return Cause(f"{DATABASE_AWAY}: {unread.reason}", unread.since, remedy_for("database_down", unread.reason))
