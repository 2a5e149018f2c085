"""How many examples are tried: few, the same each time; or many times more, drawn at random, as a variable says."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

#: So many times as many examples are tried; ``make soak`` sets it.
FACTOR = int(os.environ.get("SIGNALBUS_FUZZ", "1"))


def fuzzed(examples: int) -> settings:
    """Settings for so many examples, and for fixtures that the examples of a test share."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
