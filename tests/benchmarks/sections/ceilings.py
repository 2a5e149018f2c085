"""What the parts could do alone: the broker, the database, and each half of the relay without the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from signalbus_core.rabbitmq import Publisher

from ..blast import blast
from ..messages import message
from ..pgbench import claim_and_delete
from ..processes import cpu_seconds
from ..section import Round
from ..settings import BODY_BYTES, BURST_COUNT, WORKERS, Scale
from ..world import KINDS, Setup, World


def measure(world: World, scale: Scale) -> Round:
    found: dict[str, Mapping[str, float]] = {}
    for kind in KINDS:
        found[f"null database, {kind}"] = null_database(world, kind, scale.signals)
    with world.relays(Setup(sender="nowhere")) as relays:
        found["null sender"] = world.drain(relays, scale.signals).figures(scale.signals)
    world.clean()
    world.fill(scale.signals)
    found["pgbench"] = {"rate": claim_and_delete(world, scale.signals, BURST_COUNT, WORKERS)}
    return found


def broker(world: World, kind: str, count: int, body_bytes: int = BODY_BYTES) -> Mapping[str, float]:
    """The broker by itself."""
    before = cpu_seconds([world.rabbitmq.pid])
    done = blast(world.rabbitmq.url, kind, count, body_bytes, window=BURST_COUNT, connections=WORKERS)
    spent = cpu_seconds([world.rabbitmq.pid]) - before
    return {
        "rate": done.messages / done.seconds,
        "client_us": done.cpu_seconds / done.messages * 1e6,
        "broker_us": spent / done.messages * 1e6,
        "acks": done.acks / done.messages,
    }


def null_database(world: World, kind: str, count: int) -> Mapping[str, float]:
    """The publisher by itself: as many threads as workers, each with one burst after the other."""
    world.clean()
    burst = [message(kind, key, BODY_BYTES) for key in range(BURST_COUNT)]
    bursts = max(1, count // WORKERS // BURST_COUNT)
    with Publisher(url=world.rabbitmq.url) as publisher:
        ready = threading.Barrier(WORKERS + 1)

        def publish() -> None:
            publisher.connect()
            ready.wait()
            for _ in range(bursts):
                publisher.publish_messages(burst)
            ready.wait()

        threads = [threading.Thread(target=publish) for _ in range(WORKERS)]
        for thread in threads:
            thread.start()
        ready.wait()
        started, cpu = time.perf_counter(), time.process_time()
        ready.wait()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        for thread in threads:
            thread.join()
    sent = bursts * WORKERS * BURST_COUNT
    return {"rate": sent / seconds, "relay_us": cpu / sent * 1e6}
