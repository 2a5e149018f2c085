"""A model of the doorbell, and all orders in which its steps can happen.

Writers insert, try for the shared lock, and commit or roll back; a commit makes the row visible, delivers the bell, and
lets the lock go, in this order. The notifier listens, waits for the exclusive lock, looks, sleeps, and wakes. A lost
wake-up is a state in which it sleeps, a committed row was not seen, and no bell is on its way. The model finds none,
and it finds one as soon as a step of the protocol is left out or moved.

Rows may lie below the low-water mark: a look sees them only when it is thorough, as the last one before sleeping is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest

#: The steps by which the notifier falls asleep. At "acquire" it waits for writers who hold the lock.
PROTOCOL = ("listen", "request", "acquire", "look", "sleep")


@dataclass(frozen=True)
class Writer:
    """One transaction. ``step``: new, inserted, tried, visible, delivered, done.

    ``is_below``: its key is below the low-water mark.
    """

    is_below: bool = False
    step: str = "new"
    shares: bool = False
    rings: bool = False
    seen: bool = False
    is_committed: bool = False


@dataclass(frozen=True)
class State:
    writers: tuple[Writer, ...]
    #: How many steps of the protocol are done; the notifier sleeps when all are.
    done: int = 0
    listens: bool = False
    queues: bool = False
    holds: bool = False
    #: Bells that were delivered, and that the notifier has not heard.
    bells: int = 0
    #: It has heard a bell, or its look found something: it lets the lock go and looks until it finds nothing.
    is_awake: bool = False


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
    #: A bell wakes it.
    wakes_when_rung: bool = True
    #: The look before it sleeps begins at the first key, not at the mark.
    last_look_is_thorough: bool = True


def successors(state: State, rules: Rules) -> Iterator[State]:
    for number, writer in enumerate(state.writers):
        for changed, effect in writer_steps(writer, state, rules):
            writers = (*state.writers[:number], changed, *state.writers[number + 1 :])
            yield replace(effect, writers=writers)
    yield from doorkeeper_steps(state, rules)


def writer_steps(writer: Writer, state: State, rules: Rules) -> Iterator[tuple[Writer, State]]:
    match writer.step:
        case "new":
            yield replace(writer, step="inserted"), state
        case "inserted":
            if state.holds or state.queues:
                yield replace(writer, step="tried", rings=rules.writers_ring), state
            else:
                yield replace(writer, step="tried", shares=True), state
        case "tried":
            keeps = writer.shares and rules.lock_outlives_commit
            yield replace(writer, step="visible", is_committed=True, shares=keeps), state
            yield replace(writer, step="done", shares=False, rings=False), state
            if writer.shares and not rules.lock_outlives_commit:
                yield replace(writer, shares=False), state
        case "visible":
            heard = writer.rings and state.listens
            yield replace(writer, step="delivered"), replace(state, bells=state.bells + heard)
        case "delivered":
            yield replace(writer, step="done", shares=False), state


def doorkeeper_steps(state: State, rules: Rules) -> Iterator[State]:
    if state.bells:
        # A bell is heard at any time; while it falls asleep or sleeps, that wakes it.
        heard = replace(wake(state), is_awake=True) if rules.wakes_when_rung else state
        yield replace(heard, bells=state.bells - 1)
    if state.is_awake:
        seen, found = look(state, thorough=False)
        yield seen if found else replace(seen, is_awake=False)
    elif state.done < len(rules.protocol):
        yield from fall_asleep(state, rules)


def wake(state: State) -> State:
    """Let the lock go; it listens for good. What it queues for it goes on queueing for."""
    if state.queues:
        return state
    return replace(state, holds=False, done=min(state.done, int(state.listens)))


def look(state: State, *, thorough: bool) -> tuple[State, bool]:
    """See every row that is visible, or those above the mark."""
    new = [w.is_committed and not w.seen and (thorough or not w.is_below) for w in state.writers]
    writers = tuple(
        replace(writer, seen=True) if is_new else writer for writer, is_new in zip(state.writers, new, strict=True)
    )
    return replace(state, writers=writers), any(new)


def fall_asleep(state: State, rules: Rules) -> Iterator[State]:
    onwards = replace(state, done=state.done + 1)
    match rules.protocol[state.done]:
        case "listen":
            yield replace(onwards, listens=True)
        case "request":
            yield replace(onwards, queues=True)
        case "acquire":
            if not (rules.waits_for_writers and any(writer.shares for writer in state.writers)):
                yield replace(onwards, queues=False, holds=True)
        case "look":
            seen, found = look(onwards, thorough=rules.last_look_is_thorough)
            yield replace(wake(seen), is_awake=True) if found else seen
        case "sleep":
            yield onwards if rules.holds_while_asleep else replace(onwards, holds=False)


def is_lost(state: State, rules: Rules) -> bool:
    """It sleeps, a committed row was not seen, and nothing that is under way will wake it."""
    asleep = state.done == len(rules.protocol) and not state.is_awake
    unseen = any(writer.is_committed and not writer.seen for writer in state.writers)
    on_its_way = state.bells or any(w.step == "visible" and w.rings and state.listens for w in state.writers)
    return asleep and unseen and not on_its_way


def beginnings(number_of_writers: int) -> list[State]:
    """None of the writers is below the mark, or one; of two writers, also both."""
    return [
        State((Writer(is_below=True),) * below + (Writer(),) * (number_of_writers - below))
        for below in range(2 if number_of_writers > 2 else number_of_writers + 1)
    ]


def explore(number_of_writers: int, rules: Rules) -> tuple[int, list[State]]:
    """All states that can be reached, and those of them in which a wake-up is lost."""
    todo, lost = beginnings(number_of_writers), []
    known = set(todo)
    while todo:
        state = todo.pop()
        if is_lost(state, rules):
            lost.append(state)
        for following in successors(state, rules):
            if following not in known:
                known.add(following)
                todo.append(following)
    return len(known), lost


@pytest.mark.parametrize(("writers", "least_states"), [(1, 50), (2, 500), (3, 5000)])
def test_no_wake_up_is_lost_in_any_order_of_steps(writers: int, least_states: int) -> None:
    states, lost = explore(writers, Rules())
    assert lost == []
    # A model that goes nowhere would find nothing either.
    assert states > least_states


@pytest.mark.parametrize("writers", [1, 2, 3])
def test_every_committed_signal_is_seen_in_the_end(writers: int) -> None:
    rules = Rules()
    todo, ends = beginnings(writers), []
    known = set(todo)
    while todo:
        state = todo.pop()
        following = [one for one in successors(state, rules) if one != state]
        if not following:
            ends.append(state)
        todo += [one for one in following if one not in known]
        known |= set(following)
    assert ends
    for end in ends:
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
        Rules(wakes_when_rung=False),
        Rules(last_look_is_thorough=False),
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
        "does not wake when it is rung",
        "looks above the mark only",
    ],
)
def test_protocol_with_step_left_out_or_moved_loses_wake_up(broken: Rules) -> None:
    assert any(explore(writers, broken)[1] for writers in (1, 2))


@pytest.mark.parametrize(
    "protocol", [("request", "listen", "acquire", "look", "sleep"), ("request", "acquire", "listen", "look", "sleep")]
)
def test_to_listen_later_but_before_look_loses_nothing_either(protocol: Sequence[str]) -> None:
    # A row whose bell was not heard is visible to the look. To listen before only makes the bell heard at once.
    assert [explore(writers, Rules(protocol=protocol))[1] for writers in (1, 2)] == [[], []]
