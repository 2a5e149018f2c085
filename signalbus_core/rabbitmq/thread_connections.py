"""One connection for each thread that publishes. A thread or forked process never uses another one's connection.

A connection lives as long as its thread. A greenlet of a patched standard library counts as one, and so does a thread
that Python did not start: what ends is the thread's own storage, whatever ``threading`` knows of the thread.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from .amqp.protocol import BrokerConnectionError, Link


class _Holder:
    """Holds the connection of a thread, in the thread's own storage."""

    def __init__(self, link: Link, let_go: Callable[[Link], None]) -> None:
        self.link = link
        # It runs wherever the thread happens to end, so it must not wait for anything.
        self._finalizer = weakref.finalize(self, let_go, link)
        self._finalizer.atexit = False

    def detach(self) -> None:
        """The connection is closed already when the thread ends."""
        self._finalizer.detach()


class ThreadConnections:
    """The connections of one publisher, by thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own = threading.local()
        self._open: set[Link] = set()
        #: Connections of threads that have ended.
        self._orphans: deque[Link] = deque()

    @property
    def last_error(self) -> str | None:
        """Why this thread's last attempt to open a connection failed; None when it succeeded."""
        return getattr(self._own, "last_error", None)

    def mine(self) -> Link | None:
        holder = self._holder()
        # After a fork the socket belongs to the parent, and closing it here would close the parent's connection.
        return holder.link if holder is not None and holder.link.pid == os.getpid() else None

    def open(self, connect: Callable[[], Link]) -> Link:
        try:
            connection = connect()
        except BrokerConnectionError as error:
            self._own.last_error = str(error)
            raise
        self._own.last_error = None
        with self._lock:
            before = self._holder()
            if before is not None:
                before.detach()
                self._open.discard(before.link)
            self._own.holder = _Holder(connection, self._orphans.append)
            self._open.add(connection)
        return connection

    def close_orphans(self) -> None:
        """Close the connections of threads that have ended."""
        while self._orphans:
            try:
                orphan = self._orphans.popleft()
            except IndexError:
                # Another thread was faster.
                return
            with self._lock:
                is_open = orphan in self._open
                self._open.discard(orphan)
            if is_open:
                _close_all([orphan])

    def close_mine(self) -> None:
        holder = self._holder()
        if holder is not None:
            self._own.holder = None
            holder.detach()
            with self._lock:
                self._open.discard(holder.link)
            _close_all([holder.link])

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            connections = list(self._open)
            self._open.clear()
        # Those of other threads stay in these threads' storage; a closed one is replaced at its next use.
        self._own.holder = None
        _close_all(connections)

    def _holder(self) -> _Holder | None:
        holder: _Holder | None = getattr(self._own, "holder", None)
        return holder


def _close_all(connections: Iterable[Link]) -> None:
    for connection in connections:
        if connection.pid == os.getpid():
            # Waits for a running publish of another thread, which ends by its deadline.
            with connection.lock:
                connection.close()
