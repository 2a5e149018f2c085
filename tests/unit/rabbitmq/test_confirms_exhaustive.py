"""The bookkeeping of confirms against everything that a broker can do with a burst of up to four messages.

A broker answers for each message once, alone or together with those before it, in any order; it may return a message
before it answers for it. All of its behaviours are gone through, step by step, and after every step what the
bookkeeping says is compared with what the broker did. Steps that lead to the same state are followed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest

from signalbus_core import Outcome, OutcomeKind
from signalbus_core.rabbitmq.confirms import Confirms, Content

FIRST_TAG = 7

UNANSWERED = Outcome(OutcomeKind.UNKNOWN, "no answer")

PLAIN = Content("x", "k", None, b"", None)

#: The ways in which two messages of one burst may differ.
DIFFERENCES: dict[str, Callable[[int], Content]] = {
    "exchange": lambda number: replace(PLAIN, exchange=f"x{number}"),
    "routing key": lambda number: replace(PLAIN, routing_key=f"k{number}"),
    "message id": lambda number: replace(PLAIN, message_id=f"m{number}"),
    "body": lambda number: replace(PLAIN, body=b"%d" % number),
    "headers": lambda number: replace(PLAIN, headers={"number": number} if number else None),
}


@dataclass(frozen=True)
class Truth:
    """What the broker has done with each message so far."""

    answers: tuple[str, ...]
    returned: tuple[bool, ...]

    @cached_property
    def open(self) -> list[int]:
        return [index for index, answer in enumerate(self.answers) if not answer]

    @property
    def outcomes(self) -> list[str]:
        """The obvious rule: what was returned is returned; otherwise it is what the broker answered."""
        names = {"": "unknown", "ack": "acked", "nack": "nacked"}
        pairs = zip(self.answers, self.returned, strict=True)
        return ["returned" if returned else names[answer] for answer, returned in pairs]

    def answered(self, verb: str, indexes: Sequence[int]) -> Truth:
        return Truth(tuple(verb if i in indexes else old for i, old in enumerate(self.answers)), self.returned)

    def gave_back(self, index: int) -> Truth:
        return Truth(self.answers, tuple(old or i == index for i, old in enumerate(self.returned)))


Step = Callable[[Confirms], None]


def next_steps(truth: Truth, contents: Sequence[Content]) -> Iterator[tuple[Step, Truth]]:
    """All that the broker may do next, and what it has done then."""
    still_open = truth.open
    for index in still_open:
        tag = FIRST_TAG + index
        if not truth.returned[index]:
            yield lambda c, i=index: c.returned(contents[i], "312 NO_ROUTE"), truth.gave_back(index)  # type: ignore[misc]
        below = [other for other in still_open if other <= index]
        for verb in ("ack", "nack"):
            yield _answer(verb, tag, False), truth.answered(verb, [index])
            yield _answer(verb, tag, True), truth.answered(verb, below)
    if truth.open and truth.answers[-1]:
        # Where the last one is open, tag zero is but another name for its tag.
        for verb in ("ack", "nack"):
            yield _answer(verb, 0, True), truth.answered(verb, truth.open)


def _answer(verb: str, tag: int, multiple: bool) -> Step:
    return lambda confirms: getattr(confirms, verb)(tag, multiple=multiple)


def all_states(contents: Sequence[Content]) -> Iterator[tuple[Confirms, Truth]]:
    """Every state that the bookkeeping can get into, with what the broker has done."""
    count = len(contents)
    start = Confirms(FIRST_TAG, count, contents.__getitem__), Truth(("",) * count, (False,) * count)
    # Made once, and shared by all copies, as it never changes.
    start[0]._indexes()
    seen: set[Any] = set()
    steps: dict[Truth, list[tuple[Step, Truth]]] = {}
    to_visit = [start]
    while to_visit:
        confirms, truth = to_visit.pop()
        state = (truth.answers, truth.returned, *_fingerprint(confirms))
        if state in seen:
            continue
        seen.add(state)
        yield confirms, truth
        if truth not in steps:
            steps[truth] = list(next_steps(truth, contents))
        for step, afterwards in steps[truth]:
            changed = _copy(confirms)
            step(changed)
            to_visit.append((changed, afterwards))


def _copy(confirms: Confirms) -> Confirms:
    other = Confirms.__new__(Confirms)
    vars(other).update(vars(confirms))
    other._outcomes, other._returns = confirms._outcomes.copy(), confirms._returns.copy()
    other._ambiguous = confirms._ambiguous.copy()
    return other


def _fingerprint(confirms: Confirms) -> tuple[Any, ...]:
    """All that the bookkeeping remembers, but for the index that it makes of the contents, which never change."""
    return (
        *(confirms._unanswered, confirms._lowest, frozenset(confirms._ambiguous)),
        tuple([outcome and outcome.cause for outcome in confirms._outcomes]),
        tuple([one.candidates for one in confirms._returns]),
    )


def causes(confirms: Confirms) -> list[str]:
    return [outcome.cause for outcome in confirms.outcomes(UNANSWERED)]


def groupings(count: int) -> Iterator[tuple[int, ...]]:
    """All ways in which messages may equal each other: messages of the same number are equal."""
    if count == 0:
        yield ()
        return
    for shorter in groupings(count - 1):
        for number in range(max(shorter, default=-1) + 2):
            yield (*shorter, number)


@pytest.mark.parametrize("content_of", DIFFERENCES.values(), ids=DIFFERENCES)
@pytest.mark.parametrize("count", range(5))
def test_each_message_has_outcome_that_broker_gave_it(count: int, content_of: Callable[[int], Content]) -> None:
    visited = 0
    for confirms, truth in all_states([content_of(number) for number in range(count)]):
        assert causes(confirms) == truth.outcomes, truth
        assert confirms.is_done == (not truth.open), truth
        visited += 1
    # For each message: open, acked or nacked; returned or not.
    assert visited >= 6**count


SOME_EQUAL = [grouping for grouping in groupings(4) if len(set(grouping)) < 4]


@pytest.mark.parametrize("grouping", SOME_EQUAL, ids=lambda grouping: "".join(map(str, grouping)))
def test_no_message_is_acked_without_ack_whatever_equals_it(grouping: tuple[int, ...]) -> None:
    for confirms, truth in all_states([DIFFERENCES["body"](number) for number in grouping]):
        assert confirms.is_done == (not truth.open), truth
        said = causes(confirms)
        assert all(truth.answers[index] == "ack" for index in range(4) if said[index] == "acked"), truth


@pytest.mark.parametrize(
    "grouping",
    [grouping for grouping in groupings(3) if len(set(grouping)) < 3],
    ids=lambda grouping: "".join(map(str, grouping)),
)
def test_no_more_of_equal_messages_are_acked_than_were_stored(grouping: tuple[int, ...]) -> None:
    for confirms, truth in all_states([DIFFERENCES["body"](number) for number in grouping]):
        for number in set(grouping):
            members = [index for index, other in enumerate(grouping) if other == number]
            said, done = causes(confirms), truth.outcomes
            assert [said[i] for i in members].count("acked") <= [done[i] for i in members].count("acked"), truth
