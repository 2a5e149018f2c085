"""Bursts in this process, one after the other, watched from inside: what they ask for, and where their time goes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from signalbus_core.burst import lock, send
from signalbus_core.lowlevel import send_burst
from signalbus_core.rabbitmq import Publisher, batch, publisher
from signalbus_core.rabbitmq.amqp import channel
from signalbus_core.rabbitmq.confirms import Confirms
from tests.support.statement_log import StatementLog

from .world import World, environ


class Inside:
    """The application in this process, with all statements of its session logged."""

    def __init__(self, world: World, *, burst_count: int) -> None:
        self._world = world
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(world.logging_statements())
        with environ(
            BENCH_DATABASE_URL=f"{world.database_url}?application_name=inside",
            BENCH_AMQP_URL=world.rabbitmq.url,
            BENCH_MODELS="1",
        ):
            from .application import create_app

            self._app = create_app()
        self._stack.enter_context(self._app.app_context())
        self._db: Any = self._app.extensions["sqlalchemy"]
        self._stack.callback(self._db.engine.dispose)
        self._publisher = Publisher(self._app)
        self._stack.callback(self._publisher.close)
        [self._spec] = self._app.extensions["signalbus"].specs()
        self._world.clean()

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def burst(self, size: int) -> None:
        """Send one burst of so many signals."""
        self._world.clean()
        self._world.fill(size)
        self._send(size)

    def count(self, size: int) -> dict[str, float]:
        """What one burst asks of database and broker."""
        self._world.clean()
        self._world.fill(size)
        log, counted = StatementLog(self._world.postgres, "inside"), Counter[str]()
        with _counting(socket.socket, "send", counted), _counting(Confirms, "ack", counted):
            self._send(size)
        messages = log.new()
        statements = sum(len([part for part in text.split(";") if part.strip()]) for text in messages)
        return {
            "round_trips": len(messages),
            "statements": statements,
            "sends": counted["send"],
            "burst_acks": counted["ack"],
        }

    def profile(self, bursts: int, size: int) -> dict[str, dict[str, float]]:
        """The processor time of each phase, in microseconds for each signal."""
        self._world.clean()
        self._world.fill(bursts * size)
        clock = _PhaseClock()
        with contextlib.ExitStack() as stack:
            for owner, name, phase in PHASES:
                stack.enter_context(clock.timing(owner, name, phase))
            begun = time.thread_time()
            for _ in range(bursts):
                self._send(size)
            whole = time.thread_time() - begun
        known = {phase: clock.seconds[phase] for _, _, phase in PHASES}
        known["result and rest"] = whole - sum(known.values())
        found = {phase: {"us": seconds / bursts / size * 1e6} for phase, seconds in known.items()}
        return {**found, "whole": {"us": whole / bursts / size * 1e6}}

    def _send(self, size: int) -> None:
        result = send_burst(self._db.session(), self._spec, limit=size)
        assert result.sent == size, result


#: Functions that are called a few times in a burst, not for each signal: what measuring them costs does not show.
PHASES: tuple[tuple[Any, str, str], ...] = (
    (lock, "begin", "begin"),
    (lock, "lock_signals", "load"),
    (publisher.Publisher, "publish_signals", "build messages"),
    (batch.Batch, "_encode_all", "check and encode"),
    (channel.BrokerConnection, "send", "write and confirms"),
    (batch.Batch, "run", "outcomes"),
    (send.Delete, "run", "delete and commit"),
)


class _PhaseClock:
    """Adds up the time of phases. One that begins inside another interrupts it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def timing(self, owner: Any, name: str, phase: str) -> Iterator[None]:
        original = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            self._lap()
            self._running.append(phase)
            try:
                return original(*arguments, **named)
            finally:
                self._lap()
                self._running.pop()

        with mock.patch.object(owner, name, timed):
            yield

    def _lap(self) -> None:
        now = time.thread_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


@contextlib.contextmanager
def _counting(owner: Any, name: str, counted: Counter[str]) -> Iterator[None]:
    original: Callable[..., Any] = getattr(owner, name)

    def called(*arguments: Any, **named: Any) -> Any:
        counted[name] += 1
        return original(*arguments, **named)

    with mock.patch.object(owner, name, called):
        yield
