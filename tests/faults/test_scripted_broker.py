"""A broker that answers in every way, the wrong ones included: no script may cost a message, or repeat one for nothing.

Each script says by hand what becomes of four messages. The same scripts run against bursts of a real database.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pika import BasicProperties

from signalbus_core import Outcome, OutcomeKind, PublishError
from signalbus_core.lowlevel import BurstResult
from signalbus_core.rabbitmq import BrokerConnectionError, Message, Publisher
from tests.support.amqp_peer import AmqpPeer, Published, Session, ack_each
from tests.support.outbox_app import OutboxApp
from tests.support.waiting import eventually

#: Where the broker never answers, a publish ends after so many seconds.
TIMEOUT_SECONDS = 1.0

#: Where it answers, a publish may take so long on a busy machine.
GENEROUS_SECONDS = 60.0

COUNT = 4


@pytest.fixture(autouse=True)
def _nothing_is_left_over() -> Iterator[None]:
    before = open_files(), set(threading.enumerate())
    yield
    eventually(lambda: (open_files(), set(threading.enumerate())) == before, 10, f"nothing is left but {before}")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def peer() -> Iterator[AmqpPeer]:
    with AmqpPeer() as peer:
        yield peer


@pytest.fixture
def publisher(peer: AmqpPeer) -> Iterator[Publisher]:
    with Publisher(url=peer.url, timeout_seconds=GENEROUS_SECONDS) as publisher:
        yield publisher


def messages(*bodies: object) -> list[Message]:
    return [Message("", "key", str(body)) for body in bodies]


def publish(publisher: Publisher, wanted: Sequence[Message], **arguments: Any) -> list[Outcome]:
    try:
        publisher.publish_messages(wanted, **arguments)
    except PublishError as error:
        return list(error.outcomes)
    return [Outcome(OutcomeKind.ACKED)] * len(wanted)


def causes(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.cause for outcome in outcomes]


# Scripts


@dataclass(frozen=True)
class Case:
    """A broker's behaviour, and what becomes of four messages.

    :param answers: what the broker does when it has the message with this tag; nothing where none is given.
    :param expected: each message's cause.
    :param silent: the broker leaves the publisher to its time limit.
    """

    answers: dict[int, Callable[[Session, Published], object]]
    expected: str
    silent: bool = False

    def script(self, session: Session, message: Published) -> None:
        self.answers.get(message.tag, lambda *_: None)(session, message)


def each(*verbs: Callable[[Session], object]) -> Callable[[Session, Published], None]:
    def answer(session: Session, _message: Published) -> None:
        for verb in verbs:
            verb(session)

    return answer


def ack(tag: int, multiple: bool = False) -> Callable[[Session], None]:
    return lambda session: session.ack(tag, multiple=multiple)


def nack(tag: int, multiple: bool = False) -> Callable[[Session], None]:
    return lambda session: session.nack(tag, multiple=multiple)


def late(verb: Callable[[Session], object], seconds: float = 0.1) -> Callable[[Session], None]:
    return lambda session: session.later(seconds, lambda: verb(session))


def give_back(session: Session, message: Published) -> None:
    session.give_back(message)


def give_back_and_ack(session: Session, message: Published) -> None:
    session.give_back(message)
    session.ack(message.tag)


def ack_and_give_back(session: Session, message: Published) -> None:
    session.ack(message.tag)
    session.give_back(message)


def blocked_and_acked_later(session: Session, message: Published) -> None:
    session.block()
    session.later(0.1, session.unblock)
    session.later(0.2, lambda: session.ack(message.tag, multiple=True))


def sending(garbage: bytes) -> dict[int, Callable[[Session, Published], object]]:
    return {1: ack_each, 2: each(lambda session: session.send_garbage(garbage))}


ALL: dict[int, Callable[[Session, Published], object]] = dict.fromkeys(range(1, COUNT + 1), ack_each)

CASES = {
    "each is acked": Case(ALL, "acked acked acked acked"),
    "one ack for all": Case({4: each(ack(4, True))}, "acked acked acked acked"),
    "tag zero for all": Case({4: each(ack(0, True))}, "acked acked acked acked"),
    "out of order": Case({4: each(ack(3), ack(1), ack(4), ack(2))}, "acked acked acked acked"),
    "one ack for many, then a lower one": Case({4: each(ack(3, True), ack(2), ack(4))}, "acked acked acked acked"),
    "late": Case({4: each(late(ack(2, True)), late(ack(4, True), 0.2))}, "acked acked acked acked"),
    "each twice": Case(ALL | {4: each(ack(4), ack(4), ack(1), ack(4, True))}, "acked acked acked acked"),
    "blocked for a while": Case({4: blocked_and_acked_later}, "acked acked acked acked"),
    "one nack": Case(ALL | {2: each(nack(2))}, "acked nacked acked acked"),
    "a nack for many": Case({4: each(nack(3, True), ack(4))}, "nacked nacked nacked acked"),
    "a nack within an ack for many": Case({4: each(nack(2), ack(4, True))}, "acked nacked acked acked"),
    "acked, and nacked afterwards": Case(ALL | {3: each(ack(3), nack(3))}, "acked acked acked acked"),
    "nacked, and acked afterwards": Case(ALL | {3: each(nack(3), ack(3))}, "acked acked nacked acked"),
    "returned": Case(ALL | {2: give_back_and_ack}, "acked returned acked acked"),
    "all returned": Case(dict.fromkeys(ALL, give_back_and_ack), "returned returned returned returned"),
    "returned, and one ack for all": Case(
        {2: give_back, 3: give_back, 4: each(ack(4, True))}, "acked returned returned acked"
    ),
    "returned, and its ack never comes": Case(ALL | {2: give_back}, "acked returned acked acked", silent=True),
    "returned, and nacked": Case(ALL | {2: lambda s, m: (s.give_back(m), s.nack(2))}, "acked returned acked acked"),
    # The protocol forbids this order, so nobody can tell which message it was about: what is open is not trusted.
    "returned after its ack": Case(ALL | {2: ack_and_give_back}, "acked acked unknown unknown"),
    "one is never answered": Case(ALL | {3: each()}, "acked acked unknown acked", silent=True),
    "none is answered": Case({}, "unknown unknown unknown unknown", silent=True),
    "an ack for a tag never used": Case(ALL | {3: each(ack(99))}, "acked acked unknown unknown"),
    "an ack for many up to a tag never used": Case(ALL | {3: each(ack(5, True))}, "acked acked unknown unknown"),
    "tag zero for a single one": Case(ALL | {3: each(ack(0))}, "acked acked unknown unknown"),
    "dropped after the second": Case({1: ack_each, 2: each(ack(2), Session.drop)}, "acked acked unknown unknown"),
    "dropped before any answer": Case({4: each(Session.drop)}, "unknown unknown unknown unknown"),
    "an administrator closes the connection": Case(
        {1: ack_each, 2: each(lambda session: session.close_connection(320))}, "acked unknown unknown unknown"
    ),
    "trouble of the broker's own closes the connection": Case(
        {1: ack_each, 2: each(lambda session: session.close_connection(541))}, "acked unknown unknown unknown"
    ),
    "malformed content closes the connection": Case(
        {1: ack_each, 2: each(lambda session: session.close_connection(501))}, "acked closed closed closed"
    ),
    # Sent again alone on a new channel, they are numbered anew: the third message is the second there.
    "every second message finds no exchange": Case(
        ALL | {2: each(lambda session: session.close_channel(404))}, "acked acked refused acked"
    ),
    "every second message closes the channel itself": Case(
        ALL | {2: each(lambda session: session.close_channel(406))}, "acked acked invalid acked"
    ),
    "a frame without its end": Case(sending(b"\x01\x00\x01\x00\x00\x00\x01??"), "acked unknown unknown unknown"),
    "a frame of a type that there is not": Case(
        sending(b"\x09\x00\x01\x00\x00\x00\x01?\xce"), "acked unknown unknown unknown"
    ),
    "a method that there is not": Case(
        sending(b"\x01\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff\xce"), "acked unknown unknown unknown"
    ),
    "an ack cut short": Case(
        sending(b"\x01\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x50\x00\xce"), "acked unknown unknown unknown"
    ),
    "a frame that never comes to its end": Case(
        sending(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "acked unknown unknown unknown", silent=True
    ),
    "a greeting out of place": Case(sending(b"AMQP\x00\x00\x09\x01"), "acked unknown unknown unknown", silent=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_message_has_outcome_that_brokers_answers_prove(peer: AmqpPeer, publisher: Publisher, case: Case) -> None:
    publisher.connect()
    peer.script = case.script
    started = time.monotonic()
    found = publish(
        publisher, messages(*range(COUNT)), timeout_seconds=TIMEOUT_SECONDS if case.silent else GENEROUS_SECONDS
    )

    assert causes(found) == case.expected.split()
    assert time.monotonic() - started < GENEROUS_SECONDS / 2
    acked = {str(number).encode() for number in range(COUNT) if found[number].kind is OutcomeKind.ACKED}
    assert acked <= set(peer.stored)

    peer.script = ack_each
    assert causes(publish(publisher, messages("next"))) == ["acked"]
    assert peer.stored.count(b"next") == 1


def test_answers_that_come_too_late_are_not_taken_for_those_of_the_next_publish(
    peer: AmqpPeer, publisher: Publisher
) -> None:
    def script(session: Session, message: Published) -> None:
        if message.body == b"first":
            session.block()
        else:
            # An answer for the message that the first publish gave up, and none for this one.
            session.ack(message.tag - 1)

    peer.script = script
    assert causes(publish(publisher, messages("first"), timeout_seconds=TIMEOUT_SECONDS)) == ["unknown"]
    peer.on_session(Session.unblock)
    eventually(lambda: (publisher.keep_alive(), not publisher.status().blocked)[1])
    assert causes(publish(publisher, messages("second"), timeout_seconds=TIMEOUT_SECONDS)) == ["unknown"]
    assert len(peer.sessions) == 1


def test_a_blocked_broker_is_sent_nothing(peer: AmqpPeer, publisher: Publisher) -> None:
    publisher.connect()
    peer.on_session(Session.block)
    eventually(lambda: (publisher.keep_alive(), publisher.status().blocked)[1])
    [outcome] = publish(publisher, messages("a"))
    assert (outcome.cause, outcome.reason) == (
        "unknown",
        "not sent: the broker takes no messages (low on memory)",
    )
    assert peer.published == []


@pytest.mark.parametrize(("code", "cause"), [(404, "refused"), (403, "refused"), (406, "invalid"), (501, "invalid")])
def test_closed_channel_is_fault_of_message_that_closes_it_alone(
    peer: AmqpPeer, publisher: Publisher, code: int, cause: str
) -> None:
    def script(session: Session, message: Published) -> None:
        if message.body == b"bad":
            session.close_channel(code)
        else:
            session.ack(message.tag)

    peer.script = script
    found = publish(publisher, messages("a", "bad", "b"))
    assert causes(found) == ["acked", cause, "acked"]
    assert str(code) in found[1].reason
    assert sorted(peer.stored) == [b"a", b"b"]
    assert peer.sent_again == []
    assert len(peer.sessions) == 1


def test_exchange_that_is_missing_keeps_back_own_messages_only(peer: AmqpPeer, publisher: Publisher) -> None:
    peer.missing_exchanges = {"gone"}
    found = publish(publisher, [Message("gone", "k", b"1"), Message("here", "k", b"2")])
    assert causes(found) == ["refused", "acked"]
    assert [message.body for message in peer.published] == [b"2"]


def test_messages_differing_in_headers_are_returned_each(peer: AmqpPeer, publisher: Publisher) -> None:
    def script(session: Session, message: Published) -> None:
        if message.properties.headers == {"number": 2}:
            session.give_back(message)
        session.ack(message.tag)

    peer.script = script
    alike = [Message("", "k", b"", BasicProperties(headers={"number": number})) for number in range(COUNT)]
    assert causes(publish(publisher, alike)) == ["acked", "acked", "returned", "acked"]


def test_bodies_are_cut_to_the_frames_that_the_broker_takes() -> None:
    with AmqpPeer(frame_max=4096) as small, Publisher(url=small.url) as publisher:
        body = os.urandom(20_000)
        publisher.publish_messages([Message("", "k", body)])
        assert small.stored == [body]


def test_an_idle_connection_is_kept_by_its_heartbeats() -> None:
    with AmqpPeer(heartbeat=1) as peer, Publisher(url=peer.url + "?heartbeat=1") as publisher:
        publisher.connect()
        eventually(lambda: (publisher.keep_alive(), peer.heartbeats >= 3)[1])
        assert causes(publish(publisher, messages("a"))) == ["acked"]
        assert len(peer.sessions) == 1


def test_a_wrong_password_is_told_as_such(peer: AmqpPeer) -> None:
    wrong = Publisher(url=peer.url.replace(":guest@", ":wrong@"))
    with wrong, pytest.raises(BrokerConnectionError, match="login was refused"):
        wrong.connect()


# Messages that close the connection


def closes_on(body: bytes, code: int) -> Callable[[Session, Published], None]:
    def script(session: Session, message: Published) -> None:
        if message.body == body:
            session.close_connection(code)
        else:
            session.ack(message.tag)

    return script


@pytest.mark.parametrize("code", [501, 502, 503, 505, 540])
def test_one_message_in_flight_is_invalid_when_it_closes(peer: AmqpPeer, publisher: Publisher, code: int) -> None:
    peer.script = closes_on(b"bad", code)
    [outcome] = publish(publisher, messages("bad"))
    assert outcome.kind is OutcomeKind.INVALID
    assert f"closed by the broker: {code} " in outcome.reason
    assert causes(publish(publisher, messages("good"))) == ["acked"]


@pytest.mark.parametrize("code", [320, 403, 541])
def test_no_message_is_blamed_for_connection_closed_otherwise(peer: AmqpPeer, publisher: Publisher, code: int) -> None:
    peer.script = closes_on(b"innocent", code)
    [outcome] = publish(publisher, messages("innocent"))
    assert (outcome.kind, outcome.cause) == (OutcomeKind.UNKNOWN, "unknown")
    assert str(code) in outcome.reason


def test_of_several_messages_in_flight_none_is_blamed_but_all_are_told_apart_from_an_outage(
    peer: AmqpPeer, publisher: Publisher
) -> None:
    def script(session: Session, message: Published) -> None:
        if message.body == b"0":
            session.ack(message.tag)
        elif message.body == b"3":
            session.close_connection(501)

    peer.script = script
    found = publish(publisher, messages(*range(COUNT)))
    assert causes(found) == ["acked", "closed", "closed", "closed"]
    assert [outcome.kind for outcome in found[1:]] == [OutcomeKind.UNKNOWN] * 3


def test_the_last_message_without_an_answer_is_the_one_to_blame(peer: AmqpPeer, publisher: Publisher) -> None:
    peer.script = closes_on(b"3", 501)
    assert causes(publish(publisher, messages(*range(COUNT)))) == ["acked", "acked", "acked", "invalid"]
    assert peer.stored == [b"0", b"1", b"2"]


def test_a_message_is_not_blamed_while_one_of_an_earlier_publish_may_be_on_its_way(
    peer: AmqpPeer, publisher: Publisher
) -> None:
    peer.script = lambda session, _message: session.block()
    assert causes(publish(publisher, messages("earlier"), timeout_seconds=TIMEOUT_SECONDS)) == ["unknown"]
    peer.on_session(Session.unblock)
    eventually(lambda: (publisher.keep_alive(), not publisher.status().blocked)[1])
    peer.script = closes_on(b"innocent", 501)
    assert causes(publish(publisher, messages("innocent"))) == ["closed"]


def test_halving_finds_the_message_that_closes_the_connection(peer: AmqpPeer, publisher: Publisher) -> None:
    def script(session: Session, message: Published) -> None:
        if message.body == b"5":
            session.close_connection(501)
        else:
            session.later(0.02, lambda: session.ack(message.tag))

    def settle(bodies: list[int]) -> dict[int, str]:
        found = dict(zip(bodies, causes(publish(publisher, messages(*bodies))), strict=True))
        left = [body for body in bodies if found[body] == "closed"]
        if left:
            half = (len(left) + 1) // 2
            found |= settle(left[:half]) | settle(left[half:])
        return found

    peer.script = script
    assert settle(list(range(8))) == {body: "invalid" if body == 5 else "acked" for body in range(8)}


# Bursts of a real database


class Shop(OutboxApp):
    """An application with four signals, whose broker is the scripted one."""

    def __init__(self, database_url: str, peer: AmqpPeer) -> None:
        super().__init__(database_url, SIGNALBUS_RABBITMQ_URL=peer.url)
        self.publisher = Publisher(self.app)
        self.order = self.rabbitmq_model(
            "Order",
            lambda order: Message(None, None, str(order.id - 1)),
            signalbus_exchange="",
            signalbus_routing_key="orders",
        )
        self.create()
        self.write(self.order, *range(1, COUNT + 1))

    def send(self, timeout_seconds: float = GENEROUS_SECONDS, limit: int = COUNT) -> BurstResult:
        self.app.config["SIGNALBUS_RABBITMQ_TIMEOUT_SECONDS"] = timeout_seconds
        self.publisher._brokers.add(self.app)
        return self.burst(self.order, limit=limit)

    def numbers_left(self) -> list[int]:
        return [key - 1 for key in self.left(self.order)]

    def close(self) -> None:
        self.publisher.close()
        super().close()


@pytest.fixture
def shop(database_url: str, peer: AmqpPeer) -> Iterator[Shop]:
    shop = Shop(database_url, peer)
    yield shop
    shop.close()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_burst_deletes_exactly_what_was_stored_and_sends_none_of_it_again(
    peer: AmqpPeer, shop: Shop, case: Case
) -> None:
    expected = case.expected.split()
    peer.script = case.script
    started = time.monotonic()
    result = shop.send(TIMEOUT_SECONDS if case.silent else GENEROUS_SECONDS)

    assert time.monotonic() - started < GENEROUS_SECONDS / 2
    assert shop.numbers_left() == [number for number in range(COUNT) if expected[number] != "acked"]
    assert result.sent == expected.count("acked")
    assert causes([failed.outcome for failed in result.failed]) == [cause for cause in expected if cause != "acked"]
    deleted = set(range(COUNT)) - set(shop.numbers_left())
    assert {str(number).encode() for number in deleted} <= set(peer.stored)

    peer.script = ack_each
    first_try = len(peer.published)
    assert shop.send().error is None
    assert shop.numbers_left() == []
    assert {message.body for message in peer.published[first_try:]} == {
        str(number).encode() for number in range(COUNT) if number not in deleted
    }


def test_a_signal_that_closes_the_connection_each_time_stays_alone_and_costs_no_other_one(
    peer: AmqpPeer, shop: Shop
) -> None:
    def script(session: Session, message: Published) -> None:
        if message.body == b"1":
            session.close_connection(501)
        else:
            session.later(0.02, lambda: session.ack(message.tag, multiple=True))

    peer.script = script
    for limit in (4, 2):
        result = shop.send(limit=limit)
        assert set(causes([failed.outcome for failed in result.failed])) == {"closed"}
    assert shop.numbers_left() == [0, 1, 2, 3]
    assert shop.send(limit=1).sent == 1
    [failed] = shop.send(limit=1).failed
    assert (failed.key, failed.outcome.kind) == ((2,), OutcomeKind.INVALID)
    assert shop.numbers_left() == [1, 2, 3]
    assert peer.sent_again == []
