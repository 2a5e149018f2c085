"""What happens to the broker, and what its administrators do to it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.support.waiting import eventually

from .fault import Fault
from .world import EXCHANGE, LOGIN, SECRET, World, permissions
from .writer import KEYS

#: A start of the broker takes seconds.
RARELY = 0.1

#: A command to the broker takes about a second.
SELDOM = 0.3


def restarted(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.stop()
    try:
        yield
    finally:
        world.rabbitmq.start()


def killed(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.kill9()
    try:
        yield
    finally:
        world.rabbitmq.start()


def stopped(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.pause()
    try:
        yield
    finally:
        world.rabbitmq.resume()


def memory_alarm(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.block_publishers()
    try:
        yield
    finally:
        world.rabbitmq.unblock_publishers()


def disk_alarm(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.eval("rabbit_disk_monitor:set_disk_free_limit(1000000000000000).")
    try:
        yield
    finally:
        world.rabbitmq.eval("rabbit_disk_monitor:set_disk_free_limit(50000000).")


def exchange_deleted(world: World, _chance: random.Random) -> Iterator[None]:
    with world.channel() as channel:
        channel.exchange_delete(EXCHANGE)
    try:
        yield
    finally:
        with world.channel() as channel:
            channel.exchange_declare(EXCHANGE, exchange_type="topic", durable=True)
            for key in KEYS:
                channel.queue_bind(key, EXCHANGE, key)


def queues_deleted(world: World, _chance: random.Random) -> Iterator[None]:
    with world.hanging("locked"):
        # All bursts wait there: what was published before is in the queues, and its consumer takes it.
        eventually(lambda: world.bursts_in_flight() == len(world.reached("locked")), 20, "all bursts wait")
        world.take()
        with world.channel() as channel:
            for key in KEYS:
                channel.queue_delete(key)
    try:
        yield
    finally:
        with world.channel() as channel:
            for key in KEYS:
                world.declare_queue(channel, key)


def unbound(world: World, _chance: random.Random) -> Iterator[None]:
    with world.channel() as channel:
        for key in KEYS:
            channel.queue_unbind(key, EXCHANGE, key)
    try:
        yield
    finally:
        with world.channel() as channel:
            for key in KEYS:
                channel.queue_bind(key, EXCHANGE, key)


def queue_full(world: World, _chance: random.Random) -> Iterator[None]:
    with world.channel() as channel:
        limits = {"x-max-length": 4, "x-overflow": "reject-publish"}
        channel.queue_declare("full", durable=True, arguments=limits)
        channel.queue_bind("full", EXCHANGE, "full")
    numbers = world.write(8, ["full"])
    eventually(lambda: 0 < world.left(numbers) < 8, 20, "the queue is full")
    yield

    def drained() -> bool:
        world.take("full")
        return not world.left(numbers)

    eventually(drained, 60, "all have gone through the queue", every_seconds=0.1)
    world.take("full")
    with world.channel() as channel:
        channel.queue_delete("full")


def permission_withdrawn(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.eval(permissions("^$"))
    # Channels remember what was allowed.
    world.broker_proxy.reset()
    try:
        yield
    finally:
        world.rabbitmq.eval(permissions(".*"))
        world.broker_proxy.reset()


def password_changed(world: World, _chance: random.Random) -> Iterator[None]:
    world.rabbitmq.eval(password("another-one"))
    world.broker_proxy.reset()
    try:
        yield
    finally:
        world.rabbitmq.eval(password(SECRET))


def password(secret: str) -> str:
    return f'rabbit_auth_backend_internal:change_password(<<"{LOGIN}">>, <<"{secret}">>, <<"tests">>).'


DESTINATION = "The broker is there, so readiness is kept; only the signals wait, each for its own next try."

FAULTS = [
    Fault("broker: restart", restarted, says="broker down", weight=RARELY),
    Fault("broker: SIGKILL", killed, says="broker down", weight=RARELY),
    Fault("broker: SIGSTOP", stopped, says="broker down", weight=RARELY),
    Fault("broker: memory alarm", memory_alarm, says="broker blocked", weight=SELDOM),
    Fault("broker: disk alarm", disk_alarm, says="broker blocked", weight=SELDOM),
    Fault("broker: exchange deleted and declared again", exchange_deleted, DESTINATION, says="ready"),
    Fault(
        "broker: queues deleted and declared again",
        queues_deleted,
        "What was in them was taken out before. " + DESTINATION,
        says="ready",
    ),
    Fault("broker: queues unbound and bound again", unbound, DESTINATION, says="ready"),
    Fault("broker: queue full, reject-publish", queue_full, DESTINATION, says="ready", relays=0, weight=SELDOM),
    Fault(
        "broker: permission withdrawn and given back",
        permission_withdrawn,
        DESTINATION,
        says="ready",
        interruptions=2,
        weight=SELDOM,
    ),
    Fault("broker: password changed and changed back", password_changed, says="broker down", weight=SELDOM),
]
