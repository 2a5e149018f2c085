"""One look at several models: from which key on each is looked at, and what its low-water mark learns from that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from signalbus_core.lowlevel import SignalSpec, Work

from ..worker.low_water import Scan
from ..worker.model_state import ModelState


class ScanStarts:
    """Begins and ends the scans of looks.

    :param progress: the models by name.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, progress: Mapping[str, ModelState], clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._is_thorough = False
        self._seen_in_part: set[str] = set()
        # Scans from the start that shared a statement with one that took too long.
        self._again: set[str] = set()

    def begin_look(self, *, thorough: bool) -> None:
        """A look begins.

        :param thorough: it must see every key of every model.
        """
        self._is_thorough = thorough
        self._seen_in_part.clear()
        self._again.clear()

    def saw_every_key(self, name: str | None = None) -> bool:
        """Whether the look saw every key of a model, or of all when none is given."""
        return not self._seen_in_part if name is None else name not in self._seen_in_part

    def begin(self, specs: Sequence[SignalSpec]) -> dict[str, Scan]:
        """A statement begins that looks at these models; by name, from where on."""
        now = self._clock()
        return {
            spec.name: self._progress[spec.name].low_water.begin(
                now, thorough=self._is_thorough or spec.name in self._again
            )
            for spec in specs
        }

    def is_blind(self, name: str) -> bool:
        """Whether looking at the model takes too long, so that it is left to the workers for a while."""
        return self._progress[name].low_water.is_blind(self._clock())

    def failed(self, scans: Mapping[str, Scan]) -> bool:
        """The statement took too long; return whether that was the trouble of the one model that it looked at.

        One that looked at several says nothing of any: their scans are begun anew, each alone.
        """
        if len(scans) > 1:
            self._again |= {name for name, scan in scans.items() if scan.is_deep}
            return False
        [(name, scan)] = scans.items()
        return self._progress[name].low_water.failed(scan, self._clock() - scan.began_at)

    def ended(self, scans: Mapping[str, Scan], found: Iterable[Work]) -> None:
        """The statement has ended. What it took counts for each of the models: which of them took it is not known."""
        now = self._clock()
        for work in found:
            scan = scans[work.spec.name]
            self._progress[work.spec.name].low_water.saw(scan, work.lowest, now - scan.began_at)
            if not scan.sees_everything:
                self._seen_in_part.add(work.spec.name)
