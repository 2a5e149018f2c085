"""A section: one question, measured for some variants, in turns, so that what changes on the machine hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from .settings import Scale
from .world import World

#: What one round found: for each variant, its figures.
Round = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Section:
    """A question.

    :param measure: measures every variant once.
    :param most_rounds: no more rounds than so, because they are long, and their figures hardly differ.
    """

    name: str
    measure: Callable[[World, Scale], Round]
    most_rounds: int = 99


@dataclass(frozen=True)
class Figure:
    """What several rounds found."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


def add(found: dict[str, Any], one: Round) -> None:
    """Add the figures of a round to those of the earlier ones."""
    for variant, figures in one.items():
        for name, value in figures.items():
            found.setdefault(variant, {}).setdefault(name, []).append(round(value, 4))
