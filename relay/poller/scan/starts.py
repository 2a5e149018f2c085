"""The scan start of each model in one poll, and the update of its low-water mark after the poll.

Invariant: the timeout of a statement about several models counts against none of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from signalbus_core.lowlevel import SignalSpec, Work

from ...worker.low_water import Scan
from ...worker.model_state import ModelState


class ScanStarts:
    """Begins and ends the scans of polls.

    :param states: the models by name.
    :param clock: a monotonic clock, in seconds.
    """

    def __init__(self, states: Mapping[str, ModelState], clock: Callable[[], float] = time.monotonic) -> None:
        self._states = states
        self._clock = clock
        self._to_cover: Container[str] = ()
        #: The models whose scans from the first key timed out in this poll.
        self.timed_out: set[str] = set()
        self._seen_in_part: set[str] = set()
        self._inserted: dict[str, int] = {}
        # Models whose scan from the start shared a statement that timed out.
        self._again: set[str] = set()

    def begin_poll(self, to_cover: Container[str]) -> None:
        """A poll begins.

        :param to_cover: it must scan every key of these models.
        """
        self._to_cover = to_cover
        self.timed_out.clear()
        self._seen_in_part.clear()
        self._again.clear()

    def covered_every_key(self, name: str | None = None) -> bool:
        """Whether the poll scanned every key of a model, or of all when none is given."""
        return not self._seen_in_part if name is None else name not in self._seen_in_part

    def begin(self, specs: Sequence[SignalSpec]) -> dict[str, Scan]:
        """A statement begins that polls these models; return the scan of each, by name."""
        now = self._clock()
        return {
            spec.name: self._states[spec.name].low_water.begin(
                now, thorough=spec.name in self._to_cover or spec.name in self._again
            )
            for spec in specs
        }

    def is_left_to_workers(self, name: str) -> bool:
        """Whether polls of the model time out, so that it is left to the workers for a while."""
        return self._states[name].low_water.is_left_to_workers(self._clock())

    def take_growth(self, name: str, inserted: int) -> bool:
        """Whether rows were inserted since the last call for this model, or this is the first.

        :param inserted: how many ever were.
        """
        before, self._inserted[name] = self._inserted.get(name), inserted
        return before != inserted

    def failed(self, scans: Mapping[str, Scan]) -> bool:
        """The statement timed out; return whether that was due to the one model that it polled.

        A timeout of several models is due to none of them in particular: they are scanned again, each alone.
        """
        if len(scans) > 1:
            self._again |= {name for name, scan in scans.items() if scan.is_deep}
            return False
        [(name, scan)] = scans.items()
        if scan.is_deep:
            self.timed_out.add(name)
        return self._states[name].low_water.failed(scan, self._clock() - scan.began_at)

    def ended(self, scans: Mapping[str, Scan], found: Iterable[Work]) -> None:
        """The statement has ended. Its duration counts for each model, since the share of each is not known."""
        now = self._clock()
        for work in found:
            scan = scans[work.spec.name]
            self._states[work.spec.name].low_water.record_scan(scan, work.lowest, now - scan.began_at)
            if not scan.sees_everything:
                self._seen_in_part.add(work.spec.name)
