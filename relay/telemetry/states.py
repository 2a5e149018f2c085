"""The state of a signal model, in one word with its reason. The page, the API, metrics and commands take it from here.

Invariant: the same facts give the same word, whoever has gathered them; what is not known makes no model look better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .health import FLOW_WITHIN_SECONDS, Health
from .incidents import Incidents, single_signals
from .status import ModelStatus, Status

State = Literal["flowing", "idle", "behind", "blocked", "failing", "paused"]

STATES: tuple[State, ...] = get_args(State)

#: A backlog is counted up to this number, and a model with so many is behind. Larger: bigger backlogs are exact, and
#: counting them costs more.
BACKLOG_COUNTED_TO = 10_000


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model. None means: not known.

    :param backlog: the number of signals in its table.
    :param waiting: how many of them wait for their next try.
    :param parked: how many of them wait for a person.
    :param lag_seconds: the age of the oldest that is not parked.
    :param pause: the reason of its pause, perhaps empty; None when it is not paused.
    :param obstacle: why none of its signals can be sent, whatever they are.
    :param fault: why its signals fail.
    :param is_failing: the last signals that were tried for the first time all failed.
    :param is_sending: signals are leaving the table.
    """

    backlog: int | None = None
    waiting: int | None = None
    parked: int | None = None
    lag_seconds: float | None = None
    pause: str | None = None
    obstacle: str | None = None
    fault: str | None = None
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
    :param reason: why it is so; None for the states in which nothing is wrong.
    """

    word: State | None
    reason: str | None = None


def state_of(facts: ModelFacts) -> ModelState:
    """The first of these that is true: paused, blocked, failing, behind, flowing, idle."""
    if facts.pause is not None:
        return ModelState("paused", facts.pause or None)
    if facts.obstacle is not None:
        return ModelState("blocked", facts.obstacle)
    if facts.fault is not None:
        return ModelState("failing", facts.fault)
    if facts.backlog is None:
        return ModelState(None, "not measured yet")
    if facts.failed and _fails(facts):
        return ModelState("failing", f"{facts.failed:,} of {max(facts.backlog, facts.failed):,} signals have failed")
    if (reason := _behind(facts)) is not None:
        return ModelState("behind", reason)
    return ModelState("flowing" if facts.pending or facts.is_sending else "idle")


def _fails(facts: ModelFacts) -> bool:
    # Where it is not known what became of others, most of those in the table say it.
    if facts.is_failing is None:
        return bool(facts.waiting) and facts.failed >= facts.pending and not facts.is_sending
    return facts.is_failing


def _behind(facts: ModelFacts) -> str | None:
    if (facts.backlog or 0) >= BACKLOG_COUNTED_TO:
        return f"{BACKLOG_COUNTED_TO:,} signals or more are pending"
    # The oldest may be one that waits for its next try, while others are sent.
    if not facts.waiting and (facts.lag_seconds or 0.0) > FLOW_WITHIN_SECONDS:
        return f"the oldest signal has been waiting for {facts.lag_seconds:.0f} s"
    if facts.pending and facts.is_sending is False:
        return "signals are pending, and none of them is being sent"
    return None


class ModelStates:
    """The states of a relay's models, from what its boards know."""

    def __init__(self, status: Status, health: Health, incidents: Incidents) -> None:
        self._status = status
        self._health = health
        self._incidents = incidents

    def of(self, name: str) -> ModelState:
        known = self._status.model(name)
        return state_of(self._facts(known))

    def word(self, name: str) -> State | None:
        return self.of(name).word

    def _facts(self, known: ModelStatus) -> ModelFacts:
        gauge = known.gauge
        return ModelFacts(
            backlog=gauge.backlog if gauge else None,
            waiting=gauge.waiting if gauge else None,
            parked=gauge.parked if gauge else None,
            lag_seconds=gauge.lag_seconds if gauge else None,
            pause=known.paused.reason if known.paused else None,
            obstacle=known.unread or self._health.broker_problem() or self._health.stuck(known.name),
            fault=self._fault(known),
            is_failing=known.is_failing,
            is_sending=True if known.per_second else None,
        )

    def _fault(self, known: ModelStatus) -> str | None:
        # That single signals fail says nothing about the others; once they are counted, their numbers tell.
        is_counted = known.gauge is not None and (known.gauge.waiting or known.gauge.parked)
        told = {single_signals(known.name)} if is_counted else set()
        lasting = self._incidents.lasting().values()
        return next((one.reason for one in lasting if one.signal == known.name and one.thing not in told), None)
