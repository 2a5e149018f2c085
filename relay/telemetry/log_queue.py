"""A log handler with a bounded queue and a writer thread. Invariant: an output that blocks never blocks a caller.

A caller formats its line, queues it and goes on. When the queue is full, lines are dropped and counted; the first line
after the gap says how many are missing. The order of lines is kept.

The standard library's ``QueueListener`` does not suffice: it stops only when all lines are written, however slowly.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from typing import IO, Protocol

#: The longest queue, in lines. Larger: a longer pause of the reader loses no lines, but costs memory.
LONGEST_QUEUE = 10_000

#: The time limit for writing the queued lines at the end of the process.
FLUSH_SECONDS = 2.0


class QueuedHandler(logging.Handler):
    """Hands formatted lines to the one thread that writes them to ``stream``.

    :param longest_queue: in lines.
    """

    def __init__(self, stream: IO[str] | None, longest_queue: int = LONGEST_QUEUE) -> None:
        super().__init__()
        self.stream = stream
        self._output = output_to(stream)
        self._longest_queue = longest_queue
        # The handler's own lock: logging recreates it in a forked process.
        self._changed = threading.Condition(self.lock)
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._unwritten = 0
        self._is_writing = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line. It is formatted now: its arguments may change before it is written."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - an argument of the application's may fail in any way
            self.handleError(record)
            return
        with self._changed:
            # Once a line is dropped, the next ones are too until there is room for more than one: else a slow reader
            # would see a gap after every line.
            if self._dropped or len(self._lines) >= self._longest_queue:
                self._dropped += 1
            elif not self._is_closed:
                self._start_writer()
                self._lines.append(line)
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, but not for long: the output may block."""
        with self._changed:
            self._changed.wait_for(self._is_idle, FLUSH_SECONDS)

    def close(self) -> None:
        """Write the queued lines, and go on: ``logging.config`` closes all handlers, also those of others."""
        self.flush()
        super().close()

    def end(self) -> None:
        """Accept no more lines. Queued lines are still written."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            if self._thread is None:
                self._output.close()
        super().close()

    def _is_idle(self) -> bool:
        is_alive = self._thread is not None and self._thread.is_alive()
        return not is_alive or not (self._lines or self._dropped or self._is_writing)

    def _start_writer(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        # Without a living writer this is the first line, or a forked process whose queued lines are the parent's.
        self._lines.clear()
        self._is_writing = False
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)
        self._thread.start()

    def _write_lines(self) -> None:
        while (line := self._next_line()) is not None:
            try:
                if self._unwritten:
                    self._output.write(self._gap(self._unwritten) + "\n")
                    self._unwritten = 0
                self._output.write(line + "\n")
            except Exception:  # noqa: BLE001 - a full disk, a reader that is gone, a stream that was closed
                self._unwritten += 1
        self._output.close()

    def _next_line(self) -> str | None:
        """Wait for a line; None at the end."""
        with self._changed:
            if self._dropped and len(self._lines) <= self._longest_queue // 2:
                self._lines.append(self._gap(self._dropped))
                self._dropped = 0
            self._is_writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lines or self._is_closed)
            if not self._lines:
                return None
            self._is_writing = True
            return self._lines.popleft()

    def _gap(self, lines: int) -> str:
        record = logging.getLogger("signalbus.relay").makeRecord(
            "signalbus.relay",
            logging.WARNING,
            __file__,
            0,
            "%d log lines were lost here: the log could not be written in time.",
            (lines,),
            None,
            extra={"action": "log_lines_dropped", "lines": lines},
        )
        return self.format(record)


class Output(Protocol):
    """The output of lines."""

    def write(self, text: str) -> None:
        """Return when the text is written."""

    def close(self) -> None: ...


def output_to(stream: IO[str] | None) -> Output:
    """The output to a stream, by its file descriptor where it has one; without a stream, lines are discarded."""
    if stream is None:
        return DescriptorOutput(os.open(os.devnull, os.O_WRONLY), "utf-8")
    try:
        # Duplicated: if standard error were closed, its number would go to the next socket.
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return StreamOutput(stream)
    return DescriptorOutput(descriptor, getattr(stream, "encoding", None) or "utf-8")


class StreamOutput:
    """A stream in memory."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream open; its owner closes it."""


class DescriptorOutput:
    """A file descriptor, which it closes at the end.

    It bypasses the stream: a thread that blocks in a stream's ``write`` holds the stream's lock, and the interpreter,
    which needs that lock when it ends, would be aborted.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding
        self._is_torn = False

    def write(self, text: str) -> None:
        # After a text that was written only in part, the next one begins on a new line.
        data = (("\n" if self._is_torn else "") + text).encode(self._encoding, "backslashreplace")
        while data:
            try:
                written = os.write(self._descriptor, data)
            except BlockingIOError:
                # Another process that shares the output has made it non-blocking.
                select.select([], [self._descriptor], [])
            else:
                data = data[written:]
                self._is_torn = bool(data)

    def close(self) -> None:
        os.close(self._descriptor)
