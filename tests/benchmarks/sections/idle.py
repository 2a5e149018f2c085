"""What a relay costs that has nothing to do, with one model and with fifty."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping

from tests.support.statement_log import StatementLog

from ..section import Round
from ..settings import Scale
from ..world import Setup, World


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for models in (1, 50):
        with world.logging_statements(), world.relays(Setup(models=models, arguments=())) as relays:
            # The first looks, and the first that measures, are more than those that follow.
            threading.Event().wait(scale.settle_seconds)
            logs = [StatementLog(world.postgres, re.escape(name)) for name in ("relay", "signalbus-relay doorkeeper")]
            before, started = world.spent(relays), time.monotonic()
            threading.Event().wait(scale.idle_seconds)
            statements, seconds = sum(len(log.new()) for log in logs), time.monotonic() - started
            spent = world.spent(relays) - before
            found[f"{models} {'model' if models == 1 else 'models'}"] = {
                "statements": statements / seconds,
                "cpu_percent": spent.relay / seconds * 100,
                "memory_mib": world.peak_memory(relays),
            }
    return found
