"""All sections, in the order in which they are measured and reported."""

from __future__ import annotations

from .section import Section
from .sections import (
    backlog,
    bodies,
    ceilings,
    counters,
    dead_rows,
    drain,
    history,
    idle,
    keys,
    latency,
    order,
    producers,
    profile,
    scaling,
    single,
)

_ALL = (
    Section("drain", drain.measure),
    Section("ceilings", ceilings.measure),
    Section("profile", profile.measure),
    Section("counters", counters.measure, most_rounds=1),
    Section("bodies", bodies.measure),
    Section("single", single.measure),
    Section("keys", keys.measure),
    Section("history", history.measure),
    Section("order", order.measure, most_rounds=3),
    Section("latency", latency.measure),
    Section("producers", producers.measure),
    Section("idle", idle.measure),
    Section("dead_rows", dead_rows.measure),
    Section("backlog", backlog.measure),
    Section("scaling", scaling.measure),
)

SECTIONS = {section.name: section for section in _ALL}
