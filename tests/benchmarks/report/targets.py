"""The targets, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..figures import Figures
from ..section import Figure
from ..settings import FULL
from . import bounds
from .numbers import shown

#: Signals a second of the known ancestor at bursts of one.
ANCESTOR_SINGLE = 184


@dataclass(frozen=True)
class Target:
    """What is to be reached.

    :param value: what was measured, in each round.
    :param bound: the least that it should be, or the most.
    :param why: what bounds it, told where it is missed.
    """

    name: str
    value: Callable[[Figures], Figure | None]
    bound: float
    digits: int
    at_least: bool = True
    why: Callable[[Figures], str] = lambda figures: ""

    def row(self, figures: Figures) -> str:
        figure = self.value(figures)
        wanted = f"{'>=' if self.at_least else '<='} {self.bound:,g}"
        if figure is None:
            return f"| {self.name} | {wanted} | | not measured |"
        missed = f"missed by {abs(figure.median - self.bound) / self.bound:.0%}"
        verdict = missed if self.is_missed(figures) else "met"
        return f"| {self.name} | {wanted} | {shown(figure, self.digits)} | {verdict} |"

    def is_missed(self, figures: Figures) -> bool:
        figure = self.value(figures)
        if figure is None:
            return False
        return figure.median < self.bound if self.at_least else figure.median > self.bound


def targets(figures: Figures) -> str:
    head = ["| target | wanted | measured | |", "|---|---:|---:|---|"]
    return "\n".join([*head, *(target.row(figures) for target in TARGETS)]) + _what_bounds(figures)


def _what_bounds(figures: Figures) -> str:
    missed = [target for target in TARGETS if target.is_missed(figures)]
    told = [f"- **{target.name}**: {why}" for target in missed if (why := target.why(figures))]
    return "\n\nWhat bounds those that are missed:\n\n" + "\n".join(told) if told else ""


def _of(section: str, variant: str, name: str) -> Callable[[Figures], Figure | None]:
    return lambda figures: figures.get(section, variant, name)


def _ratio(section: str, over: str, under: str, name: str) -> Callable[[Figures], Figure | None]:
    def ratio(figures: Figures) -> Figure | None:
        upper, lower = figures.get(section, over, name), figures.get(section, under, name)
        if upper is None or lower is None:
            return None
        # Those of one round belong together: what slowed the machine then slowed both.
        return Figure(tuple(a / b for a, b in zip(upper.values, lower.values, strict=False)))

    return ratio


def _variant(section: str, number: int) -> Callable[[Figures], str]:
    def variant(figures: Figures) -> str:
        names = figures.variants(section)
        return names[number] if len(names) > 1 else ""

    return variant


def _best(section: str, name: str) -> Callable[[Figures], Figure | None]:
    def best(figures: Figures) -> Figure | None:
        found = [figure for one in figures.variants(section) if (figure := figures.get(section, one, name))]
        return max(found, key=lambda figure: figure.median, default=None)

    return best


def _second_over_first(section: str, name: str) -> Callable[[Figures], Figure | None]:
    first, second = _variant(section, 0), _variant(section, 1)
    return lambda figures: _ratio(section, second(figures), first(figures), name)(figures)


def _drain(kind: str, variant: str) -> Target:
    name = f"drain rate over the broker's ceiling, {kind}"
    return Target(name, _of("drain", variant, "ratio"), 0.75, 2, why=bounds.drain(variant))


TARGETS = (
    _drain("classic queue", "classic, without consumer"),
    _drain("classic queue with a consumer", "classic, with consumer"),
    _drain("quorum queue", "quorum, without consumer"),
    _drain("quorum queue with a consumer", "quorum, with consumer"),
    Target("relay CPU at 200 bytes, µs a message", _of("drain", "classic, without consumer", "relay_us"), 20, 1, False),
    Target(
        "bursts of one, signals/s, several workers",
        _best("single", "rate"),
        ANCESTOR_SINGLE * 10,
        0,
        why=bounds.single,
    ),
    Target("commit to consumer at 100 signals/s, p50, ms", _of("latency", "100 a second", "p50_ms"), 10, 1, False),
    Target("commit to consumer at 100 signals/s, p99, ms", _of("latency", "100 a second", "p99_ms"), 40, 1, False),
    *(
        Target(f"relay CPU at {pace}, % of a core", _of("latency", pace, "cpu_percent"), most, 1, False)
        for pace, most in (("1 a second", 0.3), ("10 a second", 1), ("100 a second", 6), ("1,000 a second", 8))
    ),
    *(
        Target(
            f"drain rate with keys of three columns over that of one, bursts of {size:,}",
            _ratio("keys", f"bursts of {size:,}, 3 columns", f"bursts of {size:,}, 1 column", "rate"),
            1 / 1.3,
            2,
        )
        for size in (50, 500, 5000)
    ),
    Target(
        "drain rate with a history over that without",
        _ratio("history", "kept for 7 days", "nothing kept", "rate"),
        0.8,
        2,
    ),
    Target(
        "drain rate in the order of 10,000 keys over that without an order",
        _ratio("order", "10,000 keys", "no order", "rate"),
        0.8,
        2,
    ),
    Target("one key in order, signals/s", _of("order", "1 key", "rate"), 300, 0),
    Target(
        "producers' commits with doorbell over without, relays busy",
        _ratio("producers", "doorbell", "no trigger", "committed"),
        0.9,
        2,
        why=bounds.producers,
    ),
    Target("statements a second of an idle relay, 50 models", _of("idle", "50 models", "statements"), 1, 2, False),
    Target("CPU of an idle relay, 50 models, % of a core", _of("idle", "50 models", "cpu_percent"), 1, 2, False),
    Target(
        f"drain rate behind {FULL.dead_rows:,} dead rows over the clean rate",
        _second_over_first("dead_rows", "rate"),
        0.8,
        2,
        why=bounds.dead_rows,
    ),
    Target(
        f"drain rate of a backlog of {FULL.backlog:,} over that of 20,000",
        _second_over_first("backlog", "rate"),
        0.95,
        2,
    ),
    Target(
        "peak memory of the relay at the long backlog over that at the short one",
        _second_over_first("backlog", "memory_mib"),
        1.1,
        2,
        False,
    ),
)
