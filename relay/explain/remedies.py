"""What to do about a signal, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from signalbus_core.lowlevel import Holder

from ..application.databases import APPLICATION_NAME
from ..text import shell_word, signal_words
from .gather import Facts
from .routes import BrokerAnswer, Messages, Route


def to_do(facts: Facts, state: str, messages: Messages | None, answers: Sequence[BrokerAnswer]) -> str:
    model, signal = shell_word(facts.model), signal_words(facts.model, facts.key)
    if state == "absent":
        return _when_absent(facts)
    if state == "sent":
        return f"Nothing; `signalbus-relay sent replay {signal}` sends it again, with the same message id."
    if state == "table-locked":
        return f"Wait until the lock is gone{_or_end(facts.holder)}; signals are sent afterwards."
    if state == "left-out":
        return "Compare its columns with --where; nothing is to be done if it is as it should be."
    if state == "scheduled":
        return "Nothing is to be done. An UPDATE of its time moves it, db.signalbus.cancel() or a DELETE cancels it."
    if state == "locked":
        # A relay that sends it waits for the broker.
        blocked = next((one.remedy for one in answers if one.remedy is not None), None)
        return blocked if blocked is not None and _is_held_by_relay(facts) else _when_locked(facts)
    if state == "blocked" and facts.blocked_by is not None:
        head = signal_words(facts.model, facts.blocked_by.key)
        skip = f", or `parked skip {head}` to send the others without it" if facts.blocked_by.is_parked else ""
        return f"See `signalbus-relay explain {head}`; `parked retry {head}` has it tried at once{skip}."
    if state == "parked":
        retry = f"`signalbus-relay parked retry {signal}` after its cause is mended"
        if facts.failed is not None and facts.failed.was_sent:
            retry += " tries its delete, not its send"
        skip = f", or `parked skip {signal}`" if facts.standing is not None and facts.standing.behind else ""
        what = f"{retry}{skip}, or `parked discard {signal}`"
        resume = f", and `signalbus-relay resume {model}`" if facts.pause else ""
        return f"{what}{resume}."
    remedies = list(_remedies(facts, messages, answers))
    if state == "waiting":
        mended = remedies[0] if remedies else "Mend the cause"
        resume = f", then `signalbus-relay resume {model}`" if facts.pause else ""
        return f"{mended}; `signalbus-relay parked retry {signal}` has it tried at once{resume}."
    if state == "paused":
        return f"`signalbus-relay resume {model}` when it may be sent."
    if remedies:
        return f"{remedies[0]}."
    if not facts.relay_sessions:
        return "Make sure that a relay runs: `signalbus-relay run`."
    return "Wait; if it stays, see the relay's log for `model_failing`, and `signalbus-relay check`."


def _remedies(facts: Facts, messages: Messages | None, answers: Sequence[BrokerAnswer]) -> Iterator[str]:
    """What to do, the most certain remedy first."""
    yield from (answer.remedy.rstrip(".") for answer in answers if answer.remedy is not None)
    if messages is None:
        return
    if messages.trouble is not None:
        yield "Mend signalbus_message, or the signal"
    if facts.failed is not None and facts.failed.error_class == "returned" and messages.routes:
        yield _binding(list(dict.fromkeys(messages.routes)))


def _binding(routes: Sequence[Route]) -> str:
    """The remedy for returned messages: bind a queue for each route."""
    queues = [
        f"declare the queue {route.routing_key!r}"
        if route.exchange == ""
        else f"bind a queue to exchange {route.exchange!r} with routing key {route.routing_key!r}"
        for route in routes
    ]
    first = queues[0][0].upper() + queues[0][1:]
    return ", ".join([first, *(f"or {queue}" for queue in queues[1:])]) + (
        ", whichever is missing" if len(queues) > 1 else ""
    )


def _when_absent(facts: Facts) -> str:
    if facts.sequence_has_returned is False:
        return "Check the key."
    return "Look for its message where it should have arrived, and for its transaction in the application's log."


def _is_held_by_relay(facts: Facts) -> bool:
    return facts.holder is None or facts.holder.application_name.startswith(APPLICATION_NAME)


def _when_locked(facts: Facts) -> str:
    if facts.holder is None or facts.holder.application_name.startswith(APPLICATION_NAME):
        return "Wait, and ask again: a relay is sending it; if it stays so, the send method hangs, see the relay's log."
    return f"Wait until that transaction ends{_or_end(facts.holder)}; relays pass over the signal until then."


def _or_end(holder: Holder | None) -> str:
    return "" if holder is None else f", or end it: SELECT pg_terminate_backend({holder.pid})"
