"""No test waits for ever: set-up, call and teardown each have a time limit, and so has the end of the process.

What takes longer fails with the stacks of all threads. Where that does not end it, as in C code that waits for a
server, or in a loop that catches everything, the process ends a little later, with the stacks on its standard error.
The servers that it started end with it, and another process runs the tests that are left.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from .fuzzing import FACTOR

#: What takes longest needs a quarter of it on a calm machine. Fuzzing with more examples takes as long as it takes.
LIMIT_SECONDS = 600.0 * FACTOR

#: So long after the limit the process ends. Until then the failure is raised again and again.
GRACE_SECONDS = 60.0
AGAIN_SECONDS = 10.0

#: A process whose tests have ended ends within so many seconds, whatever its threads do.
ENDING_SECONDS = 120.0

STDERR = pytest.StashKey[int]()


@pytest.hookimpl
def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, its output goes elsewhere.
    config.stash[STDERR] = os.dup(2)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with _limited(item, "set-up"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with _limited(item, "call"):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with _limited(item, "teardown"):
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # The interpreter waits for threads that are no daemons.
    faulthandler.dump_traceback_later(ENDING_SECONDS, exit=True, file=config.stash[STDERR])


@pytest.hookimpl
def pytest_enter_pdb() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()


@contextlib.contextmanager
def _limited(item: pytest.Item, phase: str) -> Iterator[None]:
    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"the {phase} of {item.nodeid} takes longer than {LIMIT_SECONDS:g} s\n{_stacks()}")

    former: Any = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_SECONDS, AGAIN_SECONDS)
    faulthandler.dump_traceback_later(LIMIT_SECONDS + GRACE_SECONDS, exit=True, file=item.config.stash[STDERR])
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, former)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"Thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
