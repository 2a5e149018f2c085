"""The backlog of each signal model, its age, and why it is not sent. Reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Event

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from signalbus_core.lowlevel import (
    BurstLimits,
    Choice,
    Key,
    LeaveOut,
    SignalSpec,
    error_text,
    is_away,
    locate,
    measure,
    oldest_age_seconds,
    parked_table_of,
    parked_table_problem,
)

from ..application.databases import APPLICATION_NAME, Databases
from ..poller.diagnosis.failures import failure_of_model
from ..poller.diagnosis.unreadable import Unreadable
from ..telemetry.health import DATABASE_AWAY
from ..telemetry.remedies import Remedy, remedy_for, without_remedy
from ..telemetry.states import BACKLOG_COUNTED_TO, Cause, ModelFacts, State, pause_of, state_of
from .pauses import list_pauses

#: Counting stops here unless every signal is to be counted.
COUNTED_TO = BACKLOG_COUNTED_TO

#: So many of the first pending signals are watched, to see whether they are being sent.
WATCHED = 100

#: For so long they are watched. Longer: slow bursts are seen as what they are; shorter: the command ends sooner.
WATCHED_SECONDS = 1.0

#: A locked table fails soon; counting a big one may take long.
LIMITS = BurstLimits(statement_timeout_seconds=600.0, lock_timeout_seconds=3.0, idle_timeout_seconds=60.0)


@dataclass(frozen=True)
class Backlog:
    """The backlog of one model.

    :param signals: how many are in the table and due; None when it cannot be read.
    :param is_exact: False when there may be more.
    :param oldest_age_seconds: None when there is no signal, or its age is not known.
    :param scheduled: how many are not due yet, counted likewise; None when the model schedules none.
    :param waiting: how many wait for their next try; None without the table ``signalbus_parked``.
    :param parked: how many wait for a person; None without that table.
    :param trouble: why the table cannot be read; None when it can.
    :param state: in one word, with its reason; None when it is not known.
    :param since: since when it is so, by the wall clock; None when that is not known.
    :param to_do: what to do about it, in one sentence.
    """

    model: str
    signals: int | None = None
    is_exact: bool = True
    oldest_age_seconds: float | None = None
    waiting: int | None = None
    parked: int | None = None
    paused_at: datetime | None = None
    pause_reason: str | None = None
    trouble: str | None = None
    state: State | None = None
    reason: str | None = None
    since: float | None = None
    to_do: str | None = None
    scheduled: int | None = None


class Backlogs:
    """The backlogs of an application's models.

    :param broker_problem: asks why the broker takes no messages; returns None when it does, or cannot be asked.
    """

    def __init__(self, databases: Databases, broker_problem: Callable[[], Cause | None] = lambda: None) -> None:
        self._databases = databases
        self._broker_problem = broker_problem

    def measure(self, models: tuple[str, ...] = (), *, is_exact: bool = False) -> list[Backlog]:
        """The backlog of these models, or of all. A table that cannot be read hides no other model.

        :param is_exact: count every signal, however many there are.
        :raises NotFoundError: there is no such model.
        """
        chosen = [self._databases.spec(model) for model in dict.fromkeys(models)] or self._databases.specs
        found = [self._measure(spec, None if is_exact else COUNTED_TO) for spec in chosen]
        pending = [spec for spec, (_, facts) in zip(chosen, found, strict=True) if facts.pending]
        sending = self._watch(pending) if pending else {}
        # Asked even when nothing is pending: relays tell of it too.
        problem = None if any(sending.values()) else self._broker_problem()
        return [self._judged(spec, *one, sending, problem) for spec, one in zip(chosen, found, strict=True)]

    def _measure(self, spec: SignalSpec, most: int | None) -> tuple[Backlog, ModelFacts]:
        try:
            with self._databases.transaction(spec.bind_key) as connection:
                return _backlog(connection, spec, most)
        except SQLAlchemyError as error:
            cause = self._why_unread(spec, error)
            return Backlog(spec.name, trouble=cause.reason), ModelFacts(obstacle=cause)

    def _why_unread(self, spec: SignalSpec, error: SQLAlchemyError) -> Cause:
        if is_away(error):
            return database_away(error)
        reason = error_text(error)
        if isinstance(error, DBAPIError):
            reason = Unreadable(lambda: self._databases.rolled_back(spec.bind_key)).why(spec, error)
        return Cause(without_remedy(reason), remedy=remedy_for("model_unread", reason))

    def _watch(self, specs: Sequence[SignalSpec]) -> dict[str, bool]:
        """Whether some of the first pending signals of each model are seen to leave its table, in so many seconds.

        A model of which none is pending any more is left out: they may have been sent, or have failed.
        """
        before = self._all_first_keys(specs, WATCHED)
        Event().wait(WATCHED_SECONDS)
        after = self._all_first_keys([spec for spec in specs if spec.name in before], 2 * WATCHED)
        watched = [spec for spec in specs if before.get(spec.name) and spec.name in after]
        return {spec.name: self._any_left(spec, before[spec.name] - after[spec.name]) for spec in watched}

    def _any_left(self, spec: SignalSpec, keys: Collection[Key]) -> bool:
        """Whether any of these signals, which are not pending any more, has left its table; others have failed."""
        with self._databases.rolled_back(spec.bind_key) as connection:
            return any(locate.find_signal(connection, spec, key) is None for key in keys)

    def _all_first_keys(self, specs: Sequence[SignalSpec], most: int) -> dict[str, set[Key]]:
        found: dict[str, set[Key]] = {}
        for spec in specs:
            # Python cannot hold every key of a database; of a model with such a key nothing is seen.
            with suppress(SQLAlchemyError, ValueError, OverflowError):
                found[spec.name] = self._first_keys(spec, most)
        return found

    def _first_keys(self, spec: SignalSpec, most: int) -> set[Key]:
        with self._databases.rolled_back(spec.bind_key) as connection:
            has_parked = parked_table_problem(connection, parked_table_of(spec)) is None
            choice = Choice(LeaveOut.FAILED if has_parked else LeaveOut.NOTHING)
            return set(locate.first_keys(connection, spec, choice, most))

    def _judged(
        self,
        spec: SignalSpec,
        backlog: Backlog,
        facts: ModelFacts,
        sending: Mapping[str, bool],
        problem: Cause | None,
    ) -> Backlog:
        is_sending, obstacle = sending.get(spec.name), facts.obstacle
        if not is_sending:
            obstacle = obstacle or problem
        if facts.pending and not is_sending:
            obstacle = obstacle or self._without_relay(spec)
        state = state_of(replace(facts, is_sending=is_sending, obstacle=obstacle))
        to_do = None if state.remedy is None else state.remedy.text
        return replace(backlog, state=state.word, reason=state.reason, since=state.since, to_do=to_do)

    def _without_relay(self, spec: SignalSpec) -> Cause | None:
        with self._databases.rolled_back(spec.bind_key) as connection:
            if connection.dialect.name != "postgresql" or locate.count_sessions(connection, APPLICATION_NAME):
                return None
        return Cause(
            "none of the pending signals is being sent, and no session of a relay is connected to the database: none "
            "runs, or the application gives its sessions another name",
            remedy=Remedy("Make sure that a relay runs: `signalbus-relay run`.", "SignalbusRelayDown"),
        )


def database_away(error: SQLAlchemyError) -> Cause:
    """Why nothing is known: the database does not answer."""
    reason = f"{DATABASE_AWAY}: {error_text(error)}"
    return Cause(reason, remedy=remedy_for("database_down", reason))


def _backlog(connection: Connection, spec: SignalSpec, most: int | None) -> tuple[Backlog, ModelFacts]:
    has_parked = parked_table_problem(connection, parked_table_of(spec)) is None
    [measured] = measure(connection, [spec], most, has_parked_table=has_parked)
    pause = next(iter(list_pauses(connection, [spec])), None)
    facts = ModelFacts(
        measured.backlog,
        measured.waiting if has_parked else None,
        measured.parked if has_parked else None,
        measured.age_seconds,
        pause_of(spec.name, pause.reason, pause.paused_at.timestamp()) if pause else None,
        failure=failure_of_model(connection, spec) if has_parked and measured.waiting else None,
    )
    return Backlog(
        spec.name,
        measured.backlog,
        most is None or measured.backlog < most,
        oldest_age_seconds(connection, spec, most) if measured.backlog else None,
        measured.waiting if has_parked else None,
        measured.parked if has_parked else None,
        pause.paused_at if pause else None,
        pause.reason if pause else None,
        scheduled=None if spec.schedule is None else measured.scheduled,
    ), facts
