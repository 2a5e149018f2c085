"""A model of the doorbell, and all orders in which its steps can happen.

One table; those of others are locked and covered independently of it. Writers insert, try for the shared lock, and
commit or roll back; a commit makes the row visible, delivers the bell, and lets the lock go, in this order. The
notifier listens, tries for the exclusive lock and waits for it unless it is free, looks, and sleeps. The wait may time
out; then it begins again, once the locks of other tables had their turn. Each bell that it hears asks for a turn: a
worker locks and sends what it sees. When there are many bells it lets the lock go, so that writers are silent and
workers look by themselves, until it falls asleep again in the same steps.

A lost wake-up is a state in which it sleeps, a committed row was not seen, and neither a bell is on its way nor a turn
is due. The model finds none, and it finds one as soon as a step of the protocol is left out or moved.

Rows may lie below the low-water mark: a turn sees them only when it begins at the first key, as the last look before
sleeping does. A turn from the mark on asks for another one, until one has seen every key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pytest

#: The steps by which the notifier falls asleep. At "acquire" it waits for writers who hold the lock.
PROTOCOL = ("listen", "request", "acquire", "look", "sleep")


class Writer(NamedTuple):
    """One transaction. ``step``: new, inserted, tried, visible, delivered, done.

    ``is_below``: its key is below the low-water mark.
    """

    is_below: bool = False
    step: str = "new"
    shares: bool = False
    rings: bool = False
    seen: bool = False
    is_committed: bool = False


class State(NamedTuple):
    writers: tuple[Writer, ...]
    #: How many steps of the protocol are done; the notifier sleeps when all are.
    done: int = 0
    listens: bool = False
    queues: bool = False
    holds: bool = False
    #: Bells that were delivered, and that the notifier has not heard.
    bells: int = 0
    #: A turn is due: for a bell, or because the last one began at the mark.
    is_asked: bool = False
    looks_again: bool = False
    #: The turn that a worker has: "none", "from the mark", "of every key".
    turn: str = "none"
    was_busy: bool = False

    @property
    def is_turn_due(self) -> bool:
        return self.is_asked or self.looks_again


@dataclass(frozen=True)
class Rules:
    """The protocol, or a broken one."""

    protocol: Sequence[str] = PROTOCOL
    #: The shared lock is let go only after the row is visible.
    lock_outlives_commit: bool = True
    #: A writer who does not get the shared lock rings.
    writers_ring: bool = True
    #: The notifier waits for those who hold the shared lock.
    waits_for_writers: bool = True
    #: It keeps the exclusive lock while it sleeps.
    holds_while_asleep: bool = True
    #: A bell that it hears asks for a turn.
    answers_bells: bool = True
    #: What asked for a turn is crossed out when the turn begins, and not when it ends.
    turn_takes_the_request: bool = True
    #: A turn from the mark on asks for another one.
    looks_below_the_mark: bool = True
    #: The look before it sleeps begins at the first key, not at the mark.
    last_look_is_thorough: bool = True
    #: After it was busy, it looks once it has the lock again.
    looks_after_it_was_busy: bool = True


def successors(state: State, rules: Rules) -> Iterator[State]:
    for number, writer in enumerate(state.writers):
        for changed, effect in writer_steps(writer, state, rules):
            # In one order: which of them is which makes no difference.
            writers = sorted((*state.writers[:number], changed, *state.writers[number + 1 :]))
            yield effect._replace(writers=tuple(writers))
    yield from notifier_steps(state, rules)
    yield from worker_steps(state, rules)


def writer_steps(writer: Writer, state: State, rules: Rules) -> Iterator[tuple[Writer, State]]:
    match writer.step:
        case "new":
            yield writer._replace(step="inserted"), state
        case "inserted":
            if state.holds or state.queues:
                yield writer._replace(step="tried", rings=rules.writers_ring), state
            else:
                yield writer._replace(step="tried", shares=True), state
        case "tried":
            keeps = writer.shares and rules.lock_outlives_commit
            yield writer._replace(step="visible", is_committed=True, shares=keeps), state
            yield writer._replace(step="done", shares=False, rings=False), state
            if writer.shares and not rules.lock_outlives_commit:
                yield writer._replace(shares=False), state
        case "visible":
            heard = writer.rings and state.listens
            yield writer._replace(step="delivered"), state._replace(bells=state.bells + heard)
        case "delivered":
            yield writer._replace(step="done", shares=False), state


def notifier_steps(state: State, rules: Rules) -> Iterator[State]:
    if state.bells:
        # A bell is heard at any time.
        heard = state._replace(bells=state.bells - 1, is_asked=state.is_asked or rules.answers_bells)
        yield heard
        if heard.holds:
            # There are many: it lets the lock go, and falls asleep again from the beginning; it listens for good.
            yield heard._replace(holds=False, done=min(state.done, int(state.listens)), was_busy=True)
    if state.done < len(rules.protocol):
        yield from fall_asleep(state, rules)


def worker_steps(state: State, rules: Rules) -> Iterator[State]:
    if state.turn != "none":
        looks_again = state.turn == "from the mark" and rules.looks_below_the_mark
        is_asked = state.is_asked and rules.turn_takes_the_request
        yield state._replace(turn="none", looks_again=state.looks_again or looks_again, is_asked=is_asked)
    elif state.is_turn_due:
        for turn in ("from the mark", "of every key"):
            begun = state._replace(turn=turn, looks_again=False)
            begun = begun._replace(is_asked=False) if rules.turn_takes_the_request else begun
            yield look(begun, thorough=turn == "of every key")


def look(state: State, *, thorough: bool) -> State:
    """See every row that is visible, or those above the mark."""
    writers = tuple(
        writer._replace(seen=writer.seen or (writer.is_committed and (thorough or not writer.is_below)))
        for writer in state.writers
    )
    return state._replace(writers=writers)


def fall_asleep(state: State, rules: Rules) -> Iterator[State]:
    onwards = state._replace(done=state.done + 1)
    match rules.protocol[state.done]:
        case "listen":
            yield onwards._replace(listens=True)
        case "request":
            yield onwards._replace(queues=True)
            if list(rules.protocol[state.done : state.done + 2]) == ["request", "acquire"] and is_lock_free(
                state, rules
            ):
                # It need not wait.
                yield state._replace(done=state.done + 2, holds=True)
        case "acquire":
            if is_lock_free(state, rules):
                yield onwards._replace(queues=False, holds=True)
            else:
                # The wait times out.
                yield state._replace(queues=False, done=rules.protocol.index("request"))
        case "look":
            looks = rules.looks_after_it_was_busy or not state.was_busy
            # What it finds is handed to the workers, who forget nothing: it need not look again.
            yield look(onwards, thorough=rules.last_look_is_thorough) if looks else onwards
        case "sleep":
            yield onwards if rules.holds_while_asleep else onwards._replace(holds=False)


def is_lock_free(state: State, rules: Rules) -> bool:
    return not (rules.waits_for_writers and any(writer.shares for writer in state.writers))


def is_lost(state: State, rules: Rules) -> bool:
    """It sleeps, a committed row was not seen, and nothing that is under way will find it."""
    asleep = state.done == len(rules.protocol)
    unseen = any(writer.is_committed and not writer.seen for writer in state.writers)
    is_coming = state.is_turn_due or (state.turn == "from the mark" and rules.looks_below_the_mark)
    on_its_way = state.bells or any(w.step == "visible" and w.rings and state.listens for w in state.writers)
    return asleep and unseen and not is_coming and not on_its_way


def beginnings(number_of_writers: int) -> list[State]:
    """None of the writers is below the mark, or one; of two writers, also both."""
    return [
        State((Writer(is_below=True),) * below + (Writer(),) * (number_of_writers - below))
        for below in range(2 if number_of_writers > 2 else number_of_writers + 1)
    ]


@dataclass
class Explored:
    """All states that can be reached.

    :param lost: those in which a wake-up is lost.
    :param ends: those that nothing follows.
    """

    states: set[State]
    lost: list[State]
    ends: list[State]


def explore(number_of_writers: int, rules: Rules) -> Explored:
    todo = beginnings(number_of_writers)
    found = Explored(set(todo), [], [])
    while todo:
        state = todo.pop()
        following = set(successors(state, rules)) - {state}
        if is_lost(state, rules):
            found.lost.append(state)
        if not following:
            found.ends.append(state)
        todo += following - found.states
        found.states |= following
    return found


@pytest.mark.parametrize(("writers", "least_states"), [(1, 100), (2, 2_000), (3, 20_000)])
def test_no_wake_up_is_lost_in_any_order_of_steps(writers: int, least_states: int) -> None:
    found = explore(writers, Rules())
    assert found.lost == []
    # A model that goes nowhere would find nothing either.
    assert len(found.states) > least_states
    # Every committed signal is seen in the end.
    assert found.ends
    for end in found.ends:
        assert end.done == len(PROTOCOL)
        assert end.holds
        assert all(writer.step == "done" and writer.seen == writer.is_committed for writer in end.writers)


@pytest.mark.parametrize(
    "broken",
    [
        Rules(protocol=("listen", "look", "request", "acquire", "sleep")),
        Rules(protocol=("listen", "request", "look", "acquire", "sleep")),
        Rules(protocol=("listen", "request", "acquire", "sleep")),
        Rules(protocol=("request", "acquire", "look", "listen", "sleep")),
        Rules(protocol=("request", "acquire", "look", "sleep")),
        Rules(protocol=("listen", "look", "sleep")),
        Rules(waits_for_writers=False),
        Rules(holds_while_asleep=False),
        Rules(lock_outlives_commit=False),
        Rules(writers_ring=False),
        Rules(answers_bells=False),
        Rules(turn_takes_the_request=False),
        Rules(looks_below_the_mark=False),
        Rules(last_look_is_thorough=False),
        Rules(looks_after_it_was_busy=False),
    ],
    ids=[
        "looks before it asks for the lock",
        "looks while it waits for the lock",
        "does not look",
        "listens after it has looked",
        "does not listen",
        "takes no lock",
        "does not wait for writers",
        "sleeps without the lock",
        "the lock ends before the commit",
        "writers do not ring",
        "bells are not answered",
        "a bell during a turn is forgotten when the turn ends",
        "a turn from the mark on is the last one",
        "looks above the mark only",
        "does not look after it was busy",
    ],
)
def test_protocol_with_step_left_out_or_moved_loses_wake_up(broken: Rules) -> None:
    assert any(explore(writers, broken).lost for writers in (1, 2))


@pytest.mark.parametrize(
    "protocol", [("request", "listen", "acquire", "look", "sleep"), ("request", "acquire", "listen", "look", "sleep")]
)
def test_to_listen_later_but_before_look_loses_nothing_either(protocol: Sequence[str]) -> None:
    # A row whose bell was not heard is visible to the look. To listen before only makes the bell heard at once.
    assert [explore(writers, Rules(protocol=protocol)).lost for writers in (1, 2)] == [[], []]
