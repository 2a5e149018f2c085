"""A relay of a drill ends when its drill is gone, even when the drill was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading

#: https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html
PR_SET_PDEATHSIG = 1


def tie_to_drill() -> None:
    """End this process when its standard input does: the drill holds the other end, and never writes."""
    if sys.platform == "linux":
        # A relay that is paused by SIGSTOP reads nothing; the kernel kills it all the same.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Started after the line above: where the drill was gone before it, the pipe says so.
    threading.Thread(target=_end_with_drill, name="tether", daemon=True).start()


def _end_with_drill() -> None:
    # Not sys.stdin, whose lock would be held while the interpreter shuts down.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
