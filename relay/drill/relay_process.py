"""The process of a drill's relay. Invariant: it ends when its drill is gone, even when the drill was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence

#: https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent has ended, where it can."""
    if sys.platform == "linux":
        # A relay that is stopped by SIGSTOP cannot read; the kernel kills it all the same.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tie_to_drill() -> None:
    """End this process at the end of its standard input: the drill holds the other end, and never writes."""
    die_with_parent()
    # Started after the line above: if the drill was gone before it, the pipe is at its end.
    threading.Thread(target=_end_with_drill, name="tether", daemon=True).start()


def _end_with_drill() -> None:
    # Not sys.stdin: its lock would be held while the interpreter shuts down.
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


#: The text in the log of a relay that has begun to relay.
STARTED = b"action=started"


class RelayProcess:
    """A relay, its command and its log.

    The standard input of the process is a pipe, which closes when this process ends.

    :param number: its number for people, from 1.
    :param command: of ``signalbus-relay run``, with options.
    """

    def __init__(self, number: int, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self.number = number
        self._command = list(command)
        self._environ = dict(environ)
        # Without a name, so that no file is left over.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it. The calling thread must live as long as the relay: PR_SET_PDEATHSIG is bound to that thread."""
        self._log_start = os.fstat(self._log.fileno()).st_size
        self._process = subprocess.Popen(
            self._command,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def is_up(self) -> bool:
        """Whether the process that was started last has begun to relay."""
        return STARTED in self._read_log(self._log_start)

    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """Send SIGKILL, as when a node dies."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close_pipe()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, as in an orderly shutdown."""
        self._signal(signal.SIGTERM)

    def wait(self, timeout_seconds: float) -> int:
        """Wait for its end, kill it when it takes too long, and return its exit code."""
        if self._process is None:
            return 0
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipe()
        return self._process.returncode

    def log_lines(self) -> list[str]:
        return self._read_log(0).decode(errors="replace").splitlines()

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log_lines()[-lines:])

    def close(self) -> None:
        """Kill it, and delete its log."""
        self.kill()
        self._log.close()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _read_log(self, start: int) -> bytes:
        # Not by seek(): the relay shares the file offset.
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size - start, start)
