"""Servers are asked side by side, each for a bounded time: one that falls silent hides nothing of the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from signalbus_core import error_text

from .finding import Finding, found


@dataclass(frozen=True)
class Task:
    """Something to look at.

    :param areas: those that it tells of.
    """

    areas: Sequence[str]
    look: Callable[[], Iterator[Finding]]


def look_side_by_side(tasks: Sequence[Task], seconds: float) -> list[Finding]:
    """Look at all within the time, each in a thread of its own.

    Of what is not done in time, that is told; its thread is left alone, and keeps no process from ending.
    """
    results: list[list[Finding] | None] = [None] * len(tasks)

    def look(number: int, task: Task) -> None:
        try:
            results[number] = list(task.look())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            results[number] = [_failed(area, error) for area in task.areas]

    threads = [threading.Thread(target=look, args=numbered, daemon=True) for numbered in enumerate(tasks)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    findings: list[Finding] = []
    for task, result in zip(tasks, list(results), strict=True):
        findings += [_late(area, seconds) for area in task.areas] if result is None else result
    return findings


def _failed(area: str, error: Exception) -> Finding:
    problem = f"it could not be looked at: {error_text(error)}"
    return found("area-failed", area, problem, "Mend what the text names, and run the check again.", area=area)


def _late(area: str, seconds: float) -> Finding:
    problem = f"there was no full answer within {seconds:g} s"
    return found("area-timeout", area, problem, "Check the load of the server, and the network to it.", area=area)
