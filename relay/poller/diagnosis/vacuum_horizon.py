"""Which session, prepared transaction or replication slot holds back the vacuum horizon for long.

Every transaction holds the horizon back for a moment; one that runs many statements moves on with each. So a holder is
reported only when it is seen again with the same xmin; or at once when it is an idle transaction that began long ago,
or when its statement has been running for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from signalbus_core.lowlevel import (
    HolderKind,
    HorizonHolder,
    autocommit,
    count_dead_rows,
    error_text,
    horizon_holders,
)

from ...application.databases import APPLICATION_NAME
from ...runtime import Runtime
from ...telemetry.events import HeldHorizon
from ...telemetry.incidents import REMIND_AFTER_SECONDS
from ..database import PolledDatabase
from ..joint_query import POLL_LIMITS

#: A holder is reported after so long. Longer: fewer warnings about reporting queries that end soon.
HELD_FOR_SECONDS = 3.0

Identity = tuple[HolderKind, int | str | None]


@dataclass(frozen=True)
class Held:
    """The vacuum horizon is held back.

    :param holder: of several, the one that holds it back furthest.
    :param seconds: for how long, as far as that is known.
    """

    holder: HorizonHolder
    seconds: float


def identity(holder: HorizonHolder) -> Identity:
    """What identifies a holder."""
    is_named = holder.kind in (HolderKind.SLOT, HolderKind.PREPARED)
    return holder.kind, holder.name if is_named else holder.pid


class Debounce:
    """The holders of one database, as they were seen last."""

    def __init__(self) -> None:
        self._seen: dict[Identity, tuple[str, float]] = {}

    def record_holders(self, holders: Sequence[HorizonHolder], now: float) -> Held | None:
        """Record the present holders, oldest first; return the first that has held the horizon back for long."""
        before, self._seen = self._seen, {}
        held = [Held(holder, self._seconds(holder, before, now)) for holder in holders]
        return next((one for one in held if one.seconds >= HELD_FOR_SECONDS), None)

    def _seconds(self, holder: HorizonHolder, before: dict[Identity, tuple[str, float]], now: float) -> float:
        horizon, since = before.get(identity(holder), (None, now))
        if horizon != holder.horizon:
            since = now
        self._seen[identity(holder)] = (holder.horizon, since)
        seen, age = now - since, holder.age_seconds or 0.0
        is_still = _does_nothing(holder) or (holder.still_seconds or 0.0) >= HELD_FOR_SECONDS
        return max(seen, age) if seen >= HELD_FOR_SECONDS or is_still else seen


def _does_nothing(holder: HorizonHolder) -> bool:
    return holder.kind is HolderKind.PREPARED or (holder.state or "").startswith("idle in transaction")


#: From so many dead rows of a model on, a holder is reported. Smaller: more warnings about harmless numbers.
DEAD_ROWS_THAT_HURT = 10_000

#: The interval of the query while signals flow, and otherwise.
ACTIVE_SECONDS = 2.0
IDLE_SECONDS = 60.0

#: The short interval stays so long after signals flowed: a holder must be seen twice to be reported.
AFTERWARDS_SECONDS = 8.0


class Horizon:
    """Reports the dead rows of a database, and logs who keeps them from being vacuumed, at its begin and its end."""

    def __init__(self, database: PolledDatabase, runtime: Runtime) -> None:
        self._database = database
        self._events = runtime.events
        self._clock = runtime.clock
        self._logger = runtime.logger
        self._queried = self._active = float("-inf")
        self._debounce = Debounce()
        # The holder that was logged last, since when, and when it was logged.
        self._reported: tuple[Identity, float, float] | None = None

    def run_once(self, *, is_active: bool) -> None:
        """Query the database when it is time.

        :param is_active: signals flow.
        """
        now = self._clock()
        if is_active:
            self._active = now
        if now - self._queried < (ACTIVE_SECONDS if now - self._active <= AFTERWARDS_SECONDS else IDLE_SECONDS):
            return
        self._queried = now
        try:
            hurting, holders = self._query()
        except DBAPIError as error:
            # Nothing depends on it, and the poller raises the incident when a database is away.
            self._logger.debug("Dead rows are not known: %s", error_text(error), extra={"action": "horizon_unknown"})
            return
        self._report(hurting, self._debounce.record_holders(holders, now), now)

    def _query(self) -> tuple[dict[str, int], list[HorizonHolder]]:
        """The models with too many dead rows, with their number; and if there are any, who holds the horizon back."""
        with autocommit(self._database.engine, POLL_LIMITS) as connection:
            dead_rows = count_dead_rows(connection, self._database.specs)
            counted = dict(zip(self._database.names, dead_rows, strict=True))
            hurting = {name: number for name, number in counted.items() if number >= DEAD_ROWS_THAT_HURT}
            holders = horizon_holders(connection) if hurting else []
        for name, number in counted.items():
            self._events.dead_rows_counted(name, number)
        return hurting, holders

    def _report(self, hurting: Mapping[str, int], held: Held | None, now: float) -> None:
        reported, self._reported = self._reported, None
        if held is not None:
            since = reported[1] if reported else now
            logged_at = reported[2] if reported and reported[0] == identity(held.holder) else float("-inf")
            if now - logged_at >= REMIND_AFTER_SECONDS:
                self._warn(hurting, held)
                logged_at = now
            self._reported = (identity(held.holder), since, logged_at)
        elif reported:
            seconds = round(now - reported[1], 1)
            self._logger.info(
                "Dead rows of signals can be removed again, after %s s.",
                seconds,
                extra={"action": "horizon_free", "after_seconds": seconds},
            )
        self._events.horizon_held(self._database.bind_key, None if held is None else _shown(hurting, held))

    def _warn(self, hurting: Mapping[str, int], held: Held) -> None:
        holder = held.holder
        self._logger.warning(
            "Dead rows of %s cannot be removed. They are kept alive by: %s. %s",
            ", ".join(f"{name} ({number})" for name, number in hurting.items()),
            holder,
            remedy_of_holder(holder),
            extra={
                "action": "horizon_held",
                "signals": list(hurting),
                "holder": holder.kind.value,
                "holder_name": holder.name,
                "holder_pid": holder.pid,
                "held_seconds": round(held.seconds, 1),
            },
        )


def remedy_of_holder(holder: HorizonHolder) -> str:
    """What ends it; of a relay's own session, that is not to be killed."""
    if holder.kind is HolderKind.SESSION and (holder.name or "").startswith(APPLICATION_NAME):
        return "It is a burst of a relay, and ends when the broker has answered or the send method returns."
    return holder.remedy


def _shown(hurting: Mapping[str, int], held: Held) -> HeldHorizon:
    return HeldHorizon(tuple(hurting), str(held.holder), remedy_of_holder(held.holder), held.seconds)
