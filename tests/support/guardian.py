"""Whatever becomes of the process that started a server: the server ends, and its directory goes.

A guardian is a process of its own that is told of every server and directory. When its owner ends, in whatever way
(``kill -9`` included), the pipe between them breaks, and the guardian clears up what is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

#: A server that was asked to end is killed after so many seconds.
ENDING_SECONDS = 5.0


class Guardian:
    """The owner's end. Started when it is first needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def watch(self, kind: str, value: int | str) -> None:
        """Clear this up at the end: a ``group`` of processes, a ``directory``, an ``epmd`` port or an ``nft`` table."""
        self._tell("watch", kind, value)

    def release(self, kind: str, value: int | str) -> None:
        """Forget it; its owner has cleared it up."""
        self._tell("release", kind, value)

    def _tell(self, verb: str, kind: str, value: int | str) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, __file__], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
                )
            assert self._process.stdin is not None
            self._process.stdin.write(f"{verb} {kind} {value}\n".encode())
            self._process.stdin.flush()

    def close(self) -> None:
        """Clear up what is left, and end."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()


guardian = Guardian()


def clear_up(watched: list[tuple[str, str]]) -> None:
    groups = [int(value) for kind, value in watched if kind == "group"]
    for group in groups:
        _kill_group(group, signal.SIGTERM)
    deadline = time.monotonic() + ENDING_SECONDS
    tick = threading.Event()
    while any(_group_lives(group) for group in groups) and time.monotonic() < deadline:
        tick.wait(0.05)
    for group in groups:
        _kill_group(group, signal.SIGKILL)
    for kind, value in watched:
        if kind == "epmd":
            stop_epmd(int(value))
        elif kind == "nft":
            subprocess.run(["nft", f"delete table ip {value}"], capture_output=True, check=False)
    for kind, value in watched:
        if kind == "directory":
            shutil.rmtree(value, ignore_errors=True)


def stop_epmd(port: int) -> None:
    """Stop the Erlang port mapper on this port; it outlives the node that started it."""
    deadline = time.monotonic() + ENDING_SECONDS
    tick = threading.Event()
    # It refuses for as long as it has not noticed that its last node has ended.
    while _asked_to_end(port) and time.monotonic() < deadline:
        tick.wait(0.05)


def _asked_to_end(port: int) -> bool:
    """Whether one listened there. The request is what ``epmd -kill`` sends."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), ENDING_SECONDS) as connection:
        connection.sendall(b"\0\1k")
        connection.recv(2)
        return True
    return False


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """The guardian's end: take notes until the pipe breaks, then clear up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: list[tuple[str, str]] = []
    for line in sys.stdin:
        verb, kind, value = line.rstrip("\n").split(" ", 2)
        if verb == "watch":
            watched.append((kind, value))
        elif (kind, value) in watched:
            watched.remove((kind, value))
    clear_up(watched)


if __name__ == "__main__":
    main()
