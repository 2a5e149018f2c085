"""Which messages of a burst the broker has answered for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.errors import ACKED
from signalbus_core.rabbitmq.confirms import NACKED, Confirms, Content, UnexpectedConfirmError
from tests.support.fuzzing import FACTOR

UNANSWERED = Outcome(OutcomeKind.UNKNOWN, "no answer")


def content(number: int, **changes: Any) -> Content:
    values = {"exchange": "x", "routing_key": f"k{number}", "message_id": None, "body": b"b", "headers": None}
    return Content(**(values | changes))


def kinds(confirms: Confirms) -> list[str]:
    return [outcome.cause for outcome in confirms.outcomes(UNANSWERED)]


def test_nothing_is_known_before_the_broker_has_answered() -> None:
    confirms = Confirms(1, 2, content)
    assert not confirms.is_done
    assert kinds(confirms) == ["unknown", "unknown"]


def test_each_ack_answers_for_its_own_message() -> None:
    confirms = Confirms(11, 3, content)
    confirms.ack(12, multiple=False)
    assert kinds(confirms) == ["unknown", "acked", "unknown"]


def test_an_ack_for_many_answers_for_all_up_to_its_tag() -> None:
    confirms = Confirms(11, 4, content)
    confirms.ack(13, multiple=True)
    assert kinds(confirms) == ["acked", "acked", "acked", "unknown"]


def test_tag_zero_for_many_answers_for_all() -> None:
    confirms = Confirms(11, 2, content)
    confirms.ack(0, multiple=True)
    assert confirms.is_done


def test_an_ack_for_many_does_not_undo_a_nack() -> None:
    confirms = Confirms(1, 3, content)
    confirms.nack(2, multiple=False)
    confirms.ack(3, multiple=True)
    assert kinds(confirms) == ["acked", "nacked", "acked"]


def test_a_nack_for_many_refuses_all_up_to_its_tag() -> None:
    confirms = Confirms(1, 3, content)
    confirms.nack(2, multiple=True)
    confirms.ack(3, multiple=False)
    assert kinds(confirms) == ["nacked", "nacked", "acked"]


def test_returned_message_is_refused_though_acked_afterwards() -> None:
    confirms = Confirms(1, 2, content)
    confirms.returned(content(1), "312 NO_ROUTE")
    confirms.ack(2, multiple=True)
    [first, second] = confirms.outcomes(UNANSWERED)
    assert first.kind is OutcomeKind.ACKED
    assert (second.kind, second.cause, second.reason) == (OutcomeKind.REFUSED, "returned", "312 NO_ROUTE")


def test_returned_message_is_refused_even_when_ack_never_comes() -> None:
    confirms = Confirms(1, 1, content)
    confirms.returned(content(0), "312 NO_ROUTE")
    assert not confirms.is_done
    assert kinds(confirms) == ["returned"]


def test_of_equal_messages_each_return_takes_another_one() -> None:
    confirms = Confirms(1, 3, lambda _number: content(0))
    confirms.returned(content(0), "312")
    confirms.returned(content(0), "312")
    confirms.ack(3, multiple=True)
    assert sorted(kinds(confirms)) == ["acked", "returned", "returned"]


def test_a_message_that_was_acked_before_cannot_be_returned_one() -> None:
    confirms = Confirms(1, 2, lambda _number: content(0))
    confirms.ack(1, multiple=False)
    confirms.returned(content(0), "312")
    confirms.ack(2, multiple=False)
    assert kinds(confirms) == ["acked", "returned"]


def test_messages_that_differ_only_in_headers_are_told_apart() -> None:
    headers: list[dict[str, Any]] = [{"region": "eu"}, {"region": "us"}]
    confirms = Confirms(1, 2, lambda number: content(0, headers=headers[number]))
    confirms.returned(content(0, headers={"region": "us"}), "312")
    confirms.ack(2, multiple=True)
    assert kinds(confirms) == ["acked", "returned"]


def test_headers_that_the_broker_changed_do_not_hide_a_return() -> None:
    confirms = Confirms(1, 1, lambda _number: content(0, headers={"a": 1}))
    confirms.returned(content(0, headers={"a": 1, "x-added": True}), "312")
    confirms.ack(1, multiple=False)
    assert kinds(confirms) == ["returned"]


def test_a_message_that_is_not_mandatory_cannot_be_returned_one() -> None:
    confirms = Confirms(1, 2, lambda number: content(0, mandatory=number == 1))
    confirms.returned(content(0), "312")
    confirms.ack(2, multiple=True)
    assert kinds(confirms) == ["acked", "returned"]


def test_unmatched_return_leaves_no_ack_of_its_address() -> None:
    confirms = Confirms(1, 2, content)
    confirms.returned(content(0, body=b"changed on the way"), "312")
    confirms.ack(2, multiple=True)
    assert kinds(confirms) == ["unknown", "acked"]


@pytest.mark.parametrize("tag", [4, 99, -1])
def test_an_answer_for_a_message_never_sent_is_an_error(tag: int) -> None:
    with pytest.raises(UnexpectedConfirmError):
        Confirms(1, 3, content).ack(tag, multiple=False)


def test_an_answer_for_an_earlier_burst_changes_nothing() -> None:
    confirms = Confirms(11, 1, content)
    confirms.ack(5, multiple=False)
    confirms.ack(5, multiple=True)
    assert kinds(confirms) == ["unknown"]


def test_repeated_answers_count_once() -> None:
    confirms = Confirms(1, 2, content)
    for _ in range(3):
        confirms.ack(1, multiple=False)
    assert not confirms.is_done


class CountingList(list[Any]):
    reads = 0

    def __getitem__(self, index: Any) -> Any:
        CountingList.reads += 1
        return super().__getitem__(index)


def test_answers_for_many_look_at_each_message_once_however_many_there_are() -> None:
    count = 2000
    confirms = Confirms(1, count, content)
    confirms._outcomes = CountingList(confirms._outcomes)
    CountingList.reads = 0
    for tag in range(1, count + 1):
        confirms.ack(tag, multiple=True)
    assert confirms.is_done
    assert CountingList.reads <= 2 * count


@dataclass(frozen=True)
class Fate:
    """What a broker does with a message: route it, return it, or nack it."""

    what: str
    key: int


@st.composite
def broker_runs(draw: st.DrawFn) -> tuple[list[Fate], list[tuple[str, int, bool]], int]:
    """A broker's behaviour: the fates of messages, and its answers in an order that the protocol allows.

    Confirms come in any order; each return comes before its own ack; an answer may stand for many when all that it
    covers share it.
    """
    fates = [
        Fate(*pair)
        for pair in draw(
            st.lists(st.tuples(st.sampled_from(["route", "return", "nack"]), st.integers(0, 2)), max_size=12)
        )
    ]
    order = draw(st.permutations(range(len(fates))))
    events: list[tuple[str, int, bool]] = [
        ("return", i, False) for i, fate in enumerate(fates) if fate.what == "return"
    ]
    answered: set[int] = set()
    for index in order:
        if index in answered:
            continue
        verb = "nack" if fates[index].what == "nack" else "ack"
        covered = [i for i in range(index + 1) if i not in answered]
        alike = all((fates[i].what == "nack") == (verb == "nack") for i in covered)
        multiple = alike and draw(st.booleans())
        answered |= set(covered) if multiple else {index}
        events.append((verb, index, multiple))
    stop = draw(st.integers(0, len(events)))
    return fates, events, stop


@settings(max_examples=150 * FACTOR)
@given(broker_runs(), st.integers(1, 10_000))
def test_message_is_acked_only_when_it_was_stored(
    run: tuple[list[Fate], list[tuple[str, int, bool]], int], first_tag: int
) -> None:
    fates, events, stop = run
    # Every message has a body of its own here, so that each return can be told.
    contents = [content(fate.key, body=str(number).encode()) for number, fate in enumerate(fates)]
    confirms = Confirms(first_tag, len(fates), contents.__getitem__)
    for verb, index, multiple in events[:stop]:
        if verb == "return":
            confirms.returned(contents[index], "312")
        else:
            getattr(confirms, verb)(first_tag + index, multiple=multiple)

    for fate, outcome in zip(fates, confirms.outcomes(UNANSWERED), strict=True):
        if outcome.kind is OutcomeKind.ACKED:
            assert fate.what == "route"
    if stop == len(events):
        assert confirms.is_done
        expected = {"route": "acked", "return": "returned", "nack": "nacked"}
        assert kinds(confirms) == [expected[fate.what] for fate in fates]


def calls_of(action: Callable[[], object]) -> int:
    """How many Python functions are entered while something is done."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


def test_an_answer_for_many_costs_the_same_however_many_they_are() -> None:
    def settle(count: int, answers: int) -> None:
        confirms = Confirms(1, count, content)
        for number in range(1, answers + 1):
            confirms.ack(count * number // answers, multiple=True)
        assert confirms.is_done
        assert confirms.outcomes(UNANSWERED) == [ACKED] * count

    few, many = calls_of(lambda: settle(100, 10)), calls_of(lambda: settle(100_000, 10))
    assert few == many
    assert calls_of(lambda: settle(100_000, 100)) - many <= 90 * 5


def test_answers_for_many_look_at_no_message_twice() -> None:
    confirms = Confirms(1, 10_000, content)

    def answer() -> None:
        for tag in range(2, 10_001, 2):
            confirms.ack(tag, multiple=False)
        for tag in range(1, 10_001, 2):
            confirms.nack(tag, multiple=True)

    assert calls_of(answer) <= 10_000 * 5
    assert confirms.outcomes(UNANSWERED) == [NACKED, ACKED] * 5_000
