"""The HTTP server: it serves a WSGI application from its own threads, and slow clients occupy none of them.

Invariant: a new connection is always accepted. When there are too many, the one that has been idle, or without a whole
request, for longest is closed.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.trigger import trigger

from ..config.resolve import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: The threads that handle requests. Slow clients occupy none: the event loop reads requests and writes responses.
THREADS = 4

#: The largest number of connections. Each costs a file descriptor. Larger: more clients may idle, and fewer descriptors
#: are left for the relay's own connections to database and broker.
MOST_CONNECTIONS = 400

#: So many more connections may wait for a response at once; then the next one is accepted after one of these is served.
MOST_BEING_ANSWERED = 100

LIMITS: dict[str, Any] = {
    # A client that has not sent its whole request, or read its whole response, in so many seconds is disconnected.
    "channel_timeout": 30,
    "cleanup_interval": 5,
    "max_request_header_size": 32 * 1024,
    "max_request_body_size": 64 * 1024,
    # select() does not support file descriptors above 1023.
    "asyncore_use_poll": True,
}


def most_connections() -> int:
    """The largest number of connections: at most a third of the file descriptors that the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files < 0 else max(1, min(MOST_CONNECTIONS, files // 3))


class _Channel(HTTPChannel):  # type: ignore[misc, unused-ignore]
    """A connection that single bytes do not keep open, and that is closed in favour of newer ones."""

    _request_began = 0.0

    def __init__(self, most: int, server: Any, sock: Any, addr: Any, adj: Any, map: dict[int, Any]) -> None:
        super().__init__(server, sock, addr, adj, map=cast(Any, map))
        # A name like localhost may stand for several listeners; all share the map.
        open_ones = [one for one in map.values() if isinstance(one, _Channel) and not one.will_close]
        if len(open_ones) > most:
            idle = [one for one in open_ones if not one.requests and one is not self]
            if idle:
                min(idle, key=_last_activity).will_close = True

    def writable(self) -> Any:
        if self.will_close and self.socket is not None:
            # Else a client that reads no data would keep it open for ever.
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        return super().writable()

    def received(self, data: bytes) -> Any:
        # The last_activity that handle_read has just set is reset, unless a request begins here.
        has_begun = self.request is not None
        done = super().received(data)
        if has_begun and self.request is not None:
            self.last_activity = self._request_began
        elif self.request is not None:
            self._request_began = self.last_activity
        return done


def _last_activity(channel: _Channel) -> float:
    return float(channel.last_activity)


class HttpServer:
    """Serves a WSGI application from its own threads.

    :param port: 0 for a free one.
    :param limits: settings of waitress that replace the usual ones, by name.
    :raises ConfigError: the address cannot be used.
    """

    def __init__(self, app: WSGIApplication, host: str, port: int, **limits: Any) -> None:
        self._sockets: dict[int, Any] = {}
        most = most_connections()
        # Waitress counts all sockets of its loop: also the listeners, and the trigger.
        room = {"connection_limit": most + MOST_BEING_ANSWERED}
        try:
            # A fixed Server header, which shows no version.
            self._server: Any = create_server(
                app,
                map=self._sockets,
                host=host,
                port=port,
                threads=THREADS,
                ident="signalbus",
                **{**LIMITS, **room, **limits},
            )
        except (OSError, ValueError) as error:
            self._close_sockets()
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                [f"--http {host}:{port}: cannot listen there ({reason}). Choose another port, or 0 for a free one."]
            ) from error
        for listener in self._sockets.values():
            listener.channel_class = partial(_Channel, most)
        self._trigger = trigger(cast(Any, self._sockets))
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        # A name like localhost may stand for several addresses; then there are several sockets.
        several = getattr(self._server, "effective_listen", None)
        return int(several[0][1] if several else self._server.effective_port)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop listening, and end all connections."""
        # The sockets belong to the server's thread: it closes them itself, and ends when none is left.
        self._trigger.pull_trigger(self._close_sockets)
        self._thread.join(2)
        self._server.task_dispatcher.shutdown(timeout=1)

    def _close_sockets(self, _argument: None = None) -> None:
        wasyncore.close_all(self._sockets, ignore_all=True)
