"""A log handler with a bounded queue and a writer thread. Invariant: an output that blocks never blocks a caller.

A caller formats its line, queues it and goes on. When the queue is full, lines are dropped and counted; the first line
after the gap says how many are missing. The order of lines is kept.
"""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener
from queue import Queue
from typing import IO, Any

#: The longest queue, in lines. Larger: a longer pause of the reader loses no lines, but costs memory.
LONGEST_QUEUE = 10_000

#: The time limit for writing the queued lines at the end of the process.
FLUSH_SECONDS = 2.0


class QueuedHandler(QueueHandler):
    """Hands formatted lines to the one thread that writes them to ``stream``.

    :param longest_queue: in lines.
    """

    def __init__(self, stream: IO[str] | None, longest_queue: int = LONGEST_QUEUE) -> None:
        super().__init__(Queue())
        self.stream = stream
        self._output = Output(stream)
        self._longest_queue = longest_queue
        self._dropped = 0
        self._is_closed = False
        self._writer: LogWriter | None = None

    def prepare(self, record: logging.LogRecord) -> str:
        """Format the line now: its arguments may change before it is written."""
        return self.format(record)

    def enqueue(self, record: Any) -> None:
        """Queue a line with the number of lines that were dropped before it, or drop it."""
        if self._is_closed:
            return
        writer = self._own_writer()
        if writer is None:
            writer = self._writer = LogWriter(self._output, self._gap)
            self._dropped = 0
        # Once a line is dropped, the next ones are too until there is room for more than one: else a slow reader would
        # see a gap after every line.
        if writer.lines.qsize() >= (self._longest_queue // 2 + 1 if self._dropped else self._longest_queue):
            self._dropped += 1
        else:
            writer.lines.put_nowait((self._dropped, record))
            self._dropped = 0

    def flush(self) -> None:
        """Wait until all lines are written, but not for long: the output may block."""
        writer = self._own_writer()
        if writer is not None and writer.is_done() and self._dropped:
            self.acquire()
            writer.lines.put_nowait((self._dropped, None))
            self._dropped = 0
            self.release()
            writer.is_done()

    def close(self) -> None:
        """Write the queued lines, and go on: ``logging.config`` closes all handlers, also those of others."""
        self.flush()
        super().close()

    def end(self) -> None:
        """Accept no more lines. Queued lines are still written."""
        if self._is_closed:
            return
        self._is_closed = True
        writer = self._own_writer()
        if writer is not None:
            writer.enqueue_sentinel()
        else:
            self._output.close()
        super().close()

    def _own_writer(self) -> LogWriter | None:
        """The writer of this process: a forked one has neither the thread nor a usable queue."""
        return self._writer if self._writer is not None and self._writer.pid == os.getpid() else None

    def _gap(self, lines: int) -> str:
        text = "%d log lines were lost here: the log could not be written in time."
        facts = {"name": "signalbus.relay", "levelno": logging.WARNING, "levelname": "WARNING"}
        return self.format(
            logging.makeLogRecord(
                {**facts, "msg": text, "args": (lines,), "action": "log_lines_dropped", "lines": lines}
            )
        )


class LogWriter(QueueListener):
    """The thread that writes the queued lines, and closes the output after the last.

    :param gap: returns the line that says how many lines are missing.
    """

    def __init__(self, output: Output, gap: Callable[[int], str]) -> None:
        self.lines: Queue[tuple[int, str | None] | None] = Queue()
        super().__init__(self.lines)
        self.pid = os.getpid()
        self._output = output
        self._gap = gap
        self._missing = 0
        self.start()

    def dequeue(self, block: bool) -> Any:
        item = super().dequeue(block)
        if item is None:
            self._output.close()
        return item

    def handle(self, record: Any) -> None:
        dropped, line = record
        self._missing += dropped
        try:
            if self._missing:
                self._output.write(self._gap(self._missing))
                self._missing = 0
            if line is not None:
                self._output.write(line)
        except Exception:  # noqa: BLE001 - a full disk, a reader that is gone, a stream that was closed
            self._missing += line is not None

    def is_done(self) -> bool:
        """Wait until all lines are written, but not for long; return whether they are."""
        with self.lines.all_tasks_done:
            return self.lines.all_tasks_done.wait_for(lambda: not self.lines.unfinished_tasks, FLUSH_SECONDS)


class Output:
    """A file descriptor of its own where the stream has one; a stream in memory; without a stream, nothing.

    A thread that blocks in a stream's ``write`` holds the stream's lock, and the interpreter, which needs that lock
    when it ends, would be aborted. And if standard error were closed, its number would go to the next socket.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._descriptor: int | None = os.open(os.devnull, os.O_WRONLY) if stream is None else None
        with suppress(OSError, ValueError, AttributeError):
            self._descriptor = self._descriptor or os.dup(self._stream.fileno())
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._is_torn = False

    def write(self, line: str) -> None:
        """Return when the line is written."""
        if self._descriptor is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        # After a line that was written only in part, the next one begins on a new line.
        data = (("\n" if self._is_torn else "") + line + "\n").encode(self._encoding, "backslashreplace")
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
                self._is_torn = bool(data)
            except BlockingIOError:
                # Another process that shares the output has made it non-blocking.
                select.select([], [self._descriptor], [])

    def close(self) -> None:
        """Close the descriptor. A stream in memory is left open; its owner closes it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
