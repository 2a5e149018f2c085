"""One connection for each thread that publishes. A thread or forked process never uses another one's connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from .amqp.protocol import BrokerConnectionError, Link


class ThreadConnections:
    """The connections of one publisher, by thread. Opening one closes those of threads that have ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_thread: dict[threading.Thread, Link] = {}
        #: Why the last attempt to open a connection failed.
        self.last_error: str | None = None

    def mine(self) -> Link | None:
        connection = self._by_thread.get(threading.current_thread())
        # After a fork the socket belongs to the parent, and closing it here would close the parent's connection.
        return connection if connection is not None and connection.pid == os.getpid() else None

    def open(self, connect: Callable[[], Link]) -> Link:
        try:
            connection = connect()
        except BrokerConnectionError as error:
            self.last_error = str(error)
            raise
        self.last_error = None
        with self._lock:
            ended = [thread for thread in self._by_thread if not thread.is_alive()]
            orphans = [self._by_thread.pop(thread) for thread in ended]
            self._by_thread[threading.current_thread()] = connection
        _close_all(orphans)
        return connection

    def close_mine(self) -> None:
        with self._lock:
            connection = self._by_thread.pop(threading.current_thread(), None)
        if connection is not None:
            _close_all([connection])

    def close(self) -> None:
        with self._lock:
            connections = list(self._by_thread.values())
            self._by_thread.clear()
        _close_all(connections)


def _close_all(connections: Iterable[Link]) -> None:
    for connection in connections:
        if connection.pid == os.getpid():
            # Waits for a running publish of another thread, which ends by its deadline.
            with connection.lock:
                connection.close()
