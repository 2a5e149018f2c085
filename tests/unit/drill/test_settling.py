"""A drill waits for effects as long as there are further ones: consumers that are slow have lost nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from relay.drill import run
from relay.drill.run import SETTLING_SECONDS, Drill


class Clock:
    """Time passes while the drill waits; the consumers have so many effects left at each look."""

    def __init__(self, left: Iterator[int]) -> None:
        self.now, self.left = 0.0, left

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        # A long time for each look, so that the time limit passes soon.
        self.now += SETTLING_SECONDS / 4

    def effects(self) -> Any:
        return SimpleNamespace(missing=range(next(self.left)))


def waited(monkeypatch: pytest.MonkeyPatch, left: Iterator[int]) -> float:
    clock, drill = Clock(left), Drill.__new__(Drill)
    monkeypatch.setattr(run, "time", clock)
    vars(drill).update(_consumers=object(), _wait=clock.wait, _effects=clock.effects)
    drill._settle_effects()
    return clock.now


def test_slow_consumers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited(monkeypatch, iter(range(40, -1, -1))) == 10 * SETTLING_SECONDS


def test_consumers_that_get_no_further_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited(monkeypatch, iter([9, 8] + [7] * 99)) == 1.5 * SETTLING_SECONDS
