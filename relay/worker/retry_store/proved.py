"""Signals that were proved sent and are still in their table, which no table records yet. Pure: the time is passed in.

Invariant: such a signal is never sent again. It is deleted before anything else is sent; where that does not go at
once, it is tried again between the bursts of others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from signalbus_core.lowlevel import FailedSignal, Proved, SignalRef, SignalSpec, refs_of


class ProvedSignals:
    """The proved signals of one model.

    :param wait_seconds: how long to wait after so many deletes in vain.
    """

    def __init__(self, spec: SignalSpec, wait_seconds: Callable[[int], float]) -> None:
        self._spec = spec
        self._wait_seconds = wait_seconds
        self._signals: dict[tuple[SignalRef, ...], Proved] = {}
        # When their delete is tried, and how often it was tried in vain.
        self._from, self._tries = float("-inf"), 0

    def refs(self) -> list[SignalRef]:
        return list(chain.from_iterable(self._signals))

    def are_due(self, now: float) -> bool:
        return bool(self._signals) and now >= self._from

    def claim(self, now: float) -> tuple[Proved, ...]:
        """The signals that the next burst deletes; none when they are not due."""
        if not self.are_due(now):
            return ()
        # Put off at once: rows that somebody else has locked must not keep the model's others waiting.
        self._tries += 1
        self._from = now + self._wait_seconds(self._tries)
        return tuple(self._signals.values())

    def add(self, signal: Proved) -> None:
        refs = refs_of(self._spec, signal)
        if refs not in self._signals:
            self._from, self._tries = float("-inf"), 0
        self._signals[refs] = signal

    def forget(self, signal: Proved | FailedSignal) -> None:
        self._signals.pop(refs_of(self._spec, signal), None)
