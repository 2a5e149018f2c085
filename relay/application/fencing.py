"""Fencing: a relay that was stopped for longer than its time limits can send nothing of a key late.

Invariant, where models have an order: the broker closes the connection of a silent relay before PostgreSQL ends its
transaction, and with it the row locks by which no other relay sends signals of the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask

from signalbus_core import SetupError
from signalbus_core.lowlevel import BurstLimits, SignalSpec

#: RabbitMQ closes a connection when it got nothing in two intervals in a row, which it looks for once an interval.
#: https://www.rabbitmq.com/docs/heartbeats
HEARTBEATS = 3

#: While messages are sent, a statement keeps the transaction alive after each such part of the idle timeout.
IDLE_PART = 0.25


def fencing_problem(heartbeat_seconds: float, idle_timeout_seconds: float) -> str | None:
    """Why a relay with these settings may send late, and what to set; None when it cannot."""
    if not heartbeat_seconds:
        return (
            "the URL of the broker turns heartbeats off, so that the broker never drops a relay that is stopped, which "
            "may send signals of a key after later ones. Leave out heartbeat=0"
        )
    needed = HEARTBEATS * heartbeat_seconds / (1 - IDLE_PART)
    if needed <= idle_timeout_seconds:
        return None
    longest = int(idle_timeout_seconds * (1 - IDLE_PART) / HEARTBEATS)
    return (
        f"with a heartbeat of {heartbeat_seconds:g} s the broker may drop a relay that is stopped after PostgreSQL has "
        f"ended its transaction (--idle-timeout {idle_timeout_seconds:g}), so that it may send signals of a key after "
        f"later ones. Set --idle-timeout to {needed:g} or more, or heartbeat={longest} or less in the URL of the broker"
    )


def fencing_problems(app: Flask, specs: Sequence[SignalSpec], limits: BurstLimits) -> list[str]:
    """The problems of an application; none where no model has an order."""
    if not any(spec.order is not None for spec in specs):
        return []
    found: dict[str, None] = {}
    for publisher in app.extensions.get("signalbus_publishers", []):
        try:
            nodes = publisher.bound_to(app).location.nodes
        except SetupError:
            # Another check tells of the URL.
            continue
        for node in nodes:
            problem = fencing_problem(node.parameters(1.0).heartbeat, limits.idle_timeout_seconds)
            if problem is not None:
                found[problem] = None
    return list(found)
