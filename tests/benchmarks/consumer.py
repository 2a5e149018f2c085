"""A consumer in a process of its own: it takes messages as fast as they come, and says when each arrived.

Run with the URL of the broker and the name of a queue; it ends when its standard input does. With ``--arrivals`` it
prints then, as JSON, the body of each message with the time on the monotonic clock.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import time
from typing import IO

from pika import spec

from tests.support.guardian import guardian

from .amqp import METHOD, SIZE, TAG, Client, is_method
from .places import ROOT

#: Deliveries that the broker sends before the first of them is acknowledged.
PREFETCH = 4000


class Consumer:
    """The process, seen from outside."""

    def __init__(self, url: str, queue: str, *, arrivals: bool = False) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.consumer", url, queue]
        self._process = subprocess.Popen(
            [*command, *(["--arrivals"] if arrivals else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        guardian.watch("group", self._process.pid)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> list[tuple[str, float]]:
        """End it; return what arrived."""
        if self._process.returncode is not None:
            return []
        output, _ = self._process.communicate(timeout=60)
        guardian.release("group", self._process.pid)
        return [(body, at) for body, at in json.loads(output or b"[]")]


class _Receiver:
    """Reads deliveries, and acknowledges all that it has whenever there are no more at the moment."""

    def __init__(self, client: Client, *, notes: bool) -> None:
        self._client = client
        self._notes = notes
        self._tag = 0
        self._missing = 0
        self._body = b""
        self.arrivals: list[tuple[str, float]] = []

    def receive(self) -> None:
        self._client.receive()
        now = time.monotonic()
        acked = self._tag
        for kind, payload in self._client.frames():
            if is_method(kind, payload, 60, 60):
                [self._tag] = TAG.unpack_from(payload, METHOD.size + 1 + payload[METHOD.size])
            elif kind == spec.FRAME_HEADER:
                [self._missing] = SIZE.unpack_from(payload, METHOD.size)
                self._body = b""
            elif kind == spec.FRAME_BODY:
                self._missing -= len(payload)
                if self._notes:
                    self._body += payload
                    if not self._missing:
                        self.arrivals.append((self._body.decode(), now))
        if self._tag > acked:
            self._client.ack_all(self._tag - (1 if self._missing else 0))


def main(url: str, queue: str, *, notes: bool, commands: IO[str], output: IO[str]) -> None:
    with Client(url) as client, selectors.DefaultSelector() as selector:
        client.ask(spec.Basic.Qos(0, PREFETCH), spec.Basic.QosOk)
        client.ask(spec.Basic.Consume(queue=queue), spec.Basic.ConsumeOk)
        receiver = _Receiver(client, notes=notes)
        selector.register(client.socket, selectors.EVENT_READ)
        selector.register(commands, selectors.EVENT_READ)
        print("ready", file=output, flush=True)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if client.socket in ready:
                receiver.receive()
            elif commands in ready:
                break
        json.dump(receiver.arrivals, output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], notes="--arrivals" in sys.argv, commands=sys.stdin, output=sys.stdout)
