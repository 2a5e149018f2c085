"""The facts about a signal in sentences, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from signalbus_core.lowlevel import FailureRecord, Holder, SentSignal, Standing

from ..poller.diagnosis.unreached import session_text
from ..telemetry.states import ModelState
from ..text import behind_text, duration_text, moment, time_text
from .gather import MOST_BEFORE, Facts
from .remedies import to_do
from .routes import BrokerAnswer, Messages


@dataclass(frozen=True)
class Explanation:
    """The state of a signal, and why it is not sent.

    :param state: one of :data:`STATES`: the first that keeps it from being sent.
    :param sentences: the explanation, the state first.
    :param to_do: what to do, in one sentence.
    """

    state: str
    sentences: tuple[str, ...]
    to_do: str


def explanation_of(
    facts: Facts,
    messages: Messages | None = None,
    answers: Sequence[BrokerAnswer] = (),
    model_state: ModelState | None = None,
) -> Explanation:
    """Explain the state of a signal, in that of its model.

    :param messages: that it makes; None when that is not known.
    :param answers: of the broker, when it was queried.
    """
    state = state_of(facts)
    of_model = () if model_state is None else _of_model(facts, model_state)
    sentences = [_BEGINNINGS[state](facts), *_further(facts, state), *of_model, *_of_messages(messages)]
    # None twice: several messages may go to one place.
    texts = tuple(dict.fromkeys([*sentences, *(answer.text for answer in answers)]))
    return Explanation(state, texts, to_do(facts, state, messages, answers))


def state_of(facts: Facts) -> str:
    if facts.is_table_locked:
        return "table-locked"
    if facts.found is None:
        return "sent" if facts.sent else "absent"
    if not facts.found.is_signal:
        return "left-out"
    if facts.found.due_at is not None and not (facts.failed is not None and facts.failed.is_parked):
        return "scheduled"
    if facts.found.is_locked:
        return "locked"
    if facts.failed is not None:
        return "parked" if facts.failed.is_parked else "waiting"
    if facts.pause is not None:
        return "paused"
    return "pending" if facts.blocked_by is None else "blocked"


def _named(facts: Facts) -> str:
    return f"{facts.model} {facts.key}"


def _absent(facts: Facts) -> str:
    if facts.sent is not None:
        return (
            f"{_named(facts)} is neither in its table nor among what was sent: it was never written, its transaction "
            "was rolled back or has not committed yet, it was discarded, or it is kept no longer."
        )
    if facts.sequence_has_returned is False:
        return f"{_named(facts)} is not in its table: no signal has been given this key yet."
    return (
        f"{_named(facts)} is not in its table: it was sent and deleted, or discarded, or its transaction was rolled "
        "back or has not committed yet, or it was never written."
    )


def _sent(facts: Facts) -> str:
    assert facts.sent
    return f"{_named(facts)} is gone from its table: {_was_sent(facts.sent[0])}."


def _was_sent(one: SentSignal) -> str:
    first = one.messages[0] if one.messages else None
    if first is None:
        where = ""
    else:
        more = f", and {len(one.messages) - 1} more messages" if len(one.messages) > 1 else ""
        where = f" to exchange {first.exchange!r} with routing key {first.routing_key!r}, message id {first.message_id}"
        where += more
    written = f", written at {time_text(one.written_at)}" if one.written_at is not None else ""
    return f"it was sent at {time_text(one.sent_at)}{where}{written}, and is kept until {one.keep_until}"


def _table_locked(facts: Facts) -> str:
    return f"The table of {facts.model} is locked, as by ALTER TABLE, so that nobody can read it{_held(facts.holder)}."


def _left_out(facts: Facts) -> str:
    return f"{_named(facts)} is in its table, and is not to be sent: it does not meet --where."


def _scheduled(facts: Facts) -> str:
    assert facts.found is not None
    if facts.found.due_seconds is None:
        return f"{_named(facts)} is scheduled for a time that never comes, infinity."
    wait = duration_text(max(0.0, facts.found.due_seconds))
    return f"{_named(facts)} is scheduled: it is not sent before {facts.found.due_at}, {wait} from now."


def _locked(facts: Facts) -> str:
    return f"{_named(facts)} is locked just now{_held(facts.holder)}."


def _parked(facts: Facts) -> str:
    if facts.failed is not None and facts.failed.was_sent:
        return f"{_named(facts)} is parked: it was sent; it cannot be deleted, and waits for a person."
    return f"{_named(facts)} is parked: it failed too often, and waits for a person."


def _waiting(facts: Facts) -> str:
    assert facts.failed is not None
    until = facts.failed.next_try_at
    assert until is not None
    if until <= facts.now:
        return f"{_named(facts)} is waiting for its next try, which is due."
    return f"{_named(facts)} is waiting for its next try at {time_text(until)}, {_until(facts, until)} from now."


def _paused(facts: Facts) -> str:
    return f"{_named(facts)} is pending, and its model is paused."


def _blocked(facts: Facts) -> str:
    by, place = facts.blocked_by, facts.standing
    assert by is not None
    assert place is not None
    behind = behind_text(place.before + place.behind)
    how = f"parked since {time_text(by.last_failed_at)}" if by.is_parked else "waiting for its next try"
    return f"{_named(facts)} is blocked by {facts.model} {by.key} of the same key, {how}; {behind}: {by.why}"


def _pending(facts: Facts) -> str:
    return f"{_named(facts)} is pending."


#: The states of a signal, with their sentences. In all but the first two it is in its table.
_BEGINNINGS = {
    "absent": _absent,
    "sent": _sent,
    "table-locked": _table_locked,
    "left-out": _left_out,
    "scheduled": _scheduled,
    "locked": _locked,
    "parked": _parked,
    "waiting": _waiting,
    "paused": _paused,
    "blocked": _blocked,
    "pending": _pending,
}

STATES = tuple(_BEGINNINGS)


def _held(holder: Holder | None) -> str:
    if holder is None:
        return ""
    return f": by {session_text(holder)}"


def _until(facts: Facts, moment: datetime) -> str:
    return duration_text(abs((moment - facts.now).total_seconds()))


def _further(facts: Facts, state: str) -> Iterator[str]:
    if facts.found is not None and facts.found.written_at is not None:
        yield f"It was written {_until(facts, facts.found.written_at)} ago, at {time_text(facts.found.written_at)}."
    for one in (facts.sent or ())[1:]:
        yield f"Another signal had this key: {_was_sent(one)}."
    if facts.failed is not None:
        yield _of_failures(facts, facts.failed)
    if facts.pause is not None:
        reason = f": {facts.pause.reason}" if facts.pause.reason else "."
        yield f"Its model is paused since {time_text(facts.pause.paused_at)}{reason}"
    if facts.standing is not None:
        yield from _of_standing(facts.standing, state)
    elif state in ("pending", "paused"):
        yield _of_those_before(facts.before)
    if facts.found is not None and not facts.relay_sessions:
        yield (
            "No session of a relay is connected to the database: none runs, or the application gives its sessions "
            "another name."
        )


def _of_model(facts: Facts, model_state: ModelState) -> Iterator[str]:
    # Of a pause and of a locked table another sentence tells.
    if model_state.word is not None and facts.pause is None and not facts.is_table_locked:
        since = "" if model_state.since is None else f" since {time_text(moment(model_state.since))}"
        reason = f": {model_state.reason}" if model_state.reason else ""
        yield f"{facts.model} is {model_state.word}{since}{reason}."


def _of_standing(standing: Standing, state: str) -> Iterator[str]:
    """The place among the signals of its key."""
    if standing.before:
        number = standing.before
        yield f"{number:,} {'signal of its key comes' if number == 1 else 'signals of its key come'} before it."
    elif state in ("pending", "paused"):
        yield "It comes next of its key."
    if standing.behind:
        yield f"{behind_text(standing.behind)[0].upper()}{behind_text(standing.behind)[1:]}."


def _of_those_before(number: int) -> str:
    if number == 0:
        return "It comes next of its model."
    if number == 1:
        return "One signal of its model comes before it."
    return f"{'More than ' if number >= MOST_BEFORE else ''}{number} signals of its model come before it."


def _of_failures(facts: Facts, failed: FailureRecord) -> str:
    if facts.found is None:
        return f"It is noted as failed since {time_text(failed.first_failed_at)}."
    tries = "once" if failed.attempts == 1 else f"{failed.attempts} times in a row"
    if failed.was_sent:
        return (
            f"It was sent, at {time_text(failed.first_failed_at)} at the latest, and is never sent again; its row "
            f"cannot be deleted, which was tried {tries}, last at {time_text(failed.last_failed_at)}: "
            f"{failed.error_text}"
        )
    return (
        f"It failed {tries}, first at {time_text(failed.first_failed_at)}, last at "
        f"{time_text(failed.last_failed_at)}: {failed.error_class}: {failed.error_text}"
    )


def _of_messages(messages: Messages | None) -> Iterator[str]:
    if messages is None:
        return
    if messages.trouble is not None:
        yield f"Its messages cannot be made: {messages.trouble}"
    elif not messages.routes:
        yield "It makes no message."
    for number, route in enumerate(messages.routes, start=1):
        which = "Its message" if len(messages.routes) == 1 else f"Its message {number}"
        yield f"{which} goes to exchange {route.exchange!r} with routing key {route.routing_key!r}."
