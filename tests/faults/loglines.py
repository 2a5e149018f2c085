"""What a relay may log during a fault. Pure.

One warning for each thing and change of its state, or of a reason that lasts, never one for each try. Errors and
tracebacks only where the fault says so. No password, ever.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection
from typing import Any

from relay.telemetry.incidents import SETTLED_AFTER_SECONDS

#: A trouble that lasts is told again after a minute.
REMINDER_SECONDS = 55


#: What libpq itself writes when the server ends a session before the driver has taken over its notices.
OF_LIBPQ = "FATAL:  terminating connection due to administrator command"

#: Warnings about one burst, and not about a lasting state: one for each burst that the fault interrupts.
OF_ONE_BURST = frozenset({"delete_retried"})

#: So often a thing may fail within one fault: at its beginning, and a few times while it recovers.
MOST_CHANGES = 4

#: What tells that a trouble is over.
ENDINGS = frozenset({"database_up", "broker_up", "model_recovered", "signals_flow_again", "parked_table_found"})


def log_problems(output: str, errors: Collection[str], bursts_in_flight: int, secret: str) -> list[str]:
    """What a relay should not have logged.

    :param errors: the actions that may be logged as errors.
    :param bursts_in_flight: so many bursts of this relay may have been interrupted.
    """
    found = []
    if secret in output:
        found.append("a password is in the log")
    lines = []
    for raw in output.splitlines():
        try:
            lines.append(json.loads(raw))
        except ValueError:
            if raw != OF_LIBPQ:
                found.append(f"not a log line: {raw[:200]}")
    found += _loud(lines, errors)
    # It is no error, and what was sent meanwhile is missing from the history.
    found += [str(line["message"]) for line in lines if line.get("action") == "history_suspended"]
    found += _repeated(lines, bursts_in_flight)
    return found


def _loud(lines: list[dict[str, Any]], errors: Collection[str]) -> list[str]:
    return [
        f"{line['level']} {line.get('action')}: {line['message'][:200]} {line.get('exception', '')[-300:]}"
        for line in lines
        if (line["level"] in ("ERROR", "CRITICAL") or "exception" in line) and line.get("action") not in errors
    ]


def _repeated(lines: list[dict[str, Any]], bursts_in_flight: int) -> list[str]:
    """Warnings that tell what was told already."""
    found = []
    lasting: dict[str, tuple[str, float]] = {}
    single: Counter[str] = Counter()
    for line in lines:
        action, thing = str(line.get("action")), line["message"].split(": ")[0]
        if action in ENDINGS:
            lasting.pop(thing, None)
        if line["level"] != "WARNING":
            continue
        if action in OF_ONE_BURST:
            single[action] += 1
            continue
        reason, seconds = re.sub(r"\d+", "", line["message"]), line.get("since_seconds", 0)
        if thing in lasting:
            told, at = lasting[thing]
            waits = REMINDER_SECONDS if reason == told else SETTLED_AFTER_SECONDS
            if seconds - at < waits:
                found.append(f"told twice: {line['message'][:200]}")
        lasting[thing] = (reason, seconds)
    found += [f"{count} times {action}" for action, count in single.items() if count > bursts_in_flight]
    # A state that comes and goes with each try is a warning for each try.
    changes = Counter(line["message"].split(": ")[0] for line in lines if line["level"] == "WARNING")
    found += [f"{count} warnings about {thing}" for thing, count in changes.items() if count > MOST_CHANGES]
    return found
