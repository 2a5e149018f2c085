"""A queue that confirms nothing, as a quorum queue without its majority does, holds up nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from signalbus_core import Outcome, OutcomeKind, PublishError
from signalbus_core.rabbitmq import Message, Publisher
from signalbus_core.rabbitmq.destination_breaker import FIRST_WAIT_SECONDS, DestinationBreaker
from tests.support.amqp_peer import AmqpPeer, Published, Session
from tests.support.clock import Clock

TIMEOUT_SECONDS = 0.5
GENEROUS_SECONDS = 20.0


class Broker:
    """Acks everything but what goes to silent destinations."""

    def __init__(self) -> None:
        self.silent = {"silent"}
        self.peer = AmqpPeer(self.answer)
        self.got: list[str] = []

    def answer(self, session: Session, message: Published) -> None:
        self.got.append(str(message.method.routing_key))
        if str(message.method.routing_key) not in self.silent:
            session.ack(message.tag)

    def close(self) -> None:
        self.peer.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    with closing(Broker()) as broker:
        yield broker


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def publisher(broker: Broker, clock: Clock) -> Iterator[Publisher]:
    with Publisher(url=broker.peer.url) as publisher:
        publisher._settings().broker.breaker = DestinationBreaker(clock)
        yield publisher


def publish(publisher: Publisher, *keys: str, timeout_seconds: float = GENEROUS_SECONDS) -> list[Outcome]:
    try:
        publisher.publish_messages([Message("", key, b"x") for key in keys], timeout_seconds=timeout_seconds)
    except PublishError as error:
        return list(error.outcomes)
    return [Outcome(OutcomeKind.ACKED)] * len(keys)


def causes(outcomes: list[Outcome]) -> list[str]:
    return [outcome.cause for outcome in outcomes]


def test_silent_destination_is_no_outage_and_is_left_alone(broker: Broker, publisher: Publisher) -> None:
    first = publish(publisher, "a", "silent", "b", timeout_seconds=TIMEOUT_SECONDS)
    assert causes(first) == ["acked", "silent", "acked"]
    assert first[1].kind is OutcomeKind.UNKNOWN
    assert first[1].is_of_destination
    assert not first[1].is_unanswered

    second = publish(publisher, "a", "silent", "b", "silent")
    assert causes(second) == ["acked", "refused", "acked", "refused"]
    assert "routing key 'silent' for 0 s" in second[1].reason
    assert broker.got.count("silent") == 1


def test_nothing_confirmed_is_an_outage_and_holds_nothing_back(broker: Broker, publisher: Publisher) -> None:
    broker.silent = {"a", "b"}
    for _ in range(2):
        assert causes(publish(publisher, "a", "b", timeout_seconds=TIMEOUT_SECONDS)) == ["unknown", "unknown"]
    assert broker.got == ["a", "b", "a", "b"]


def test_destination_of_which_part_was_confirmed_is_not_silent(broker: Broker, publisher: Publisher) -> None:
    broker.silent = set()
    seen: list[str] = []

    def answer_first_only(session: Session, message: Published) -> None:
        seen.append(str(message.method.routing_key))
        if seen.count(str(message.method.routing_key)) == 1:
            session.ack(message.tag)

    broker.peer.script = answer_first_only
    outcomes = publish(publisher, "a", "a", "b", timeout_seconds=TIMEOUT_SECONDS)
    assert causes(outcomes) == ["acked", "unknown", "acked"]


def test_after_a_while_one_message_tries_and_when_it_is_answered_the_rest_follows(
    broker: Broker, publisher: Publisher, clock: Clock
) -> None:
    publish(publisher, "a", "silent", timeout_seconds=TIMEOUT_SECONDS)
    clock.now += FIRST_WAIT_SECONDS
    still = publish(publisher, "silent", "a", "silent", timeout_seconds=TIMEOUT_SECONDS)
    assert causes(still) == ["silent", "acked", "refused"]
    assert broker.got.count("silent") == 2

    broker.silent = set()
    clock.now += FIRST_WAIT_SECONDS * 2
    assert causes(publish(publisher, "silent", "a", "silent")) == ["acked", "acked", "refused"]
    assert causes(publish(publisher, "silent", "silent")) == ["acked", "acked"]


def test_a_silent_destination_alone_in_its_bursts_is_noticed_by_what_others_get_meanwhile(
    broker: Broker, publisher: Publisher, clock: Clock
) -> None:
    for expected in ("unknown", "silent", "refused"):
        assert causes(publish(publisher, "silent", timeout_seconds=TIMEOUT_SECONDS)) == [expected]
        clock.now += 1.0
        assert causes(publish(publisher, "a")) == ["acked"]
        clock.now += 1.0
    assert broker.got == ["silent", "a", "silent", "a", "a"]


def test_after_an_outage_nothing_is_held_back(broker: Broker, publisher: Publisher, clock: Clock) -> None:
    broker.silent = {"a", "b", "c"}
    for _ in range(2):
        publish(publisher, "a", "b", timeout_seconds=TIMEOUT_SECONDS)
        clock.now += 1.0
    broker.silent = set()
    assert causes(publish(publisher, "c")) == ["acked"]
    assert causes(publish(publisher, "a", "b")) == ["acked", "acked"]
