"""A process that takes a share of a processor, and does nothing with it.

Run with the share, between 0 and 1; it ends when its standard input does. What it could not have, because others took
it, it takes later.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

from tests.support.guardian import guardian

from .places import ROOT

#: It looks so often whether it has had its share.
SLICE_SECONDS = 0.001


@contextlib.contextmanager
def burning(cores: float) -> Iterator[None]:
    """Take so many processors, or a part of one, for the time of the block."""
    count = max(1, math.ceil(cores))
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(_process(cores / count))
        yield


@contextlib.contextmanager
def _process(share: float) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.benchmarks.burner", str(share)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True
    ) as process:
        guardian.watch("group", process.pid)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.communicate(timeout=60)
            guardian.release("group", process.pid)


def main(share: float, commands: IO[str], output: IO[str]) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(commands, selectors.EVENT_READ)
        print("ready", file=output, flush=True)
        began, burned = time.monotonic(), time.process_time()
        is_over = False
        while not is_over:
            until = time.process_time() + SLICE_SECONDS
            owed = share * (time.monotonic() - began) - (time.process_time() - burned)
            while owed > 0 and time.process_time() < until:
                pass
            is_over = bool(selector.select(0 if owed > 0 else SLICE_SECONDS))


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.stdin, sys.stdout)
