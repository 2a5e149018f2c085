"""Which of those who hold the horizon back does so for long. Pure: the time is passed in.

Every transaction holds it for a moment, and one that runs many statements moves on with each. So whoever is seen must
be seen again, at the same place; except for one that does nothing, and has begun long ago, and for one whose statement
runs for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from signalbus_core import HolderKind, HorizonHolder

#: Who holds the horizon back for so long matters. Longer: fewer words about reports that end soon.
HELD_FOR_SECONDS = 3.0

Identity = tuple[HolderKind, int | str | None]


@dataclass(frozen=True)
class Held:
    """The horizon is held back.

    :param holder: by whom; of several, the one that holds it back furthest.
    :param seconds: for how long, as far as that is known.
    """

    holder: HorizonHolder
    seconds: float


def identity(holder: HorizonHolder) -> Identity:
    """What tells a holder from others."""
    is_named = holder.kind in (HolderKind.SLOT, HolderKind.PREPARED)
    return holder.kind, holder.name if is_named else holder.pid


class Sightings:
    """The holders of one database, as they were seen."""

    def __init__(self) -> None:
        self._seen: dict[Identity, tuple[str, float]] = {}

    def saw(self, holders: Sequence[HorizonHolder], now: float) -> Held | None:
        """Note who holds the horizon back now, oldest first; return the first of them who does so for long."""
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
