"""What the facts about a signal mean."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import pytest

from relay.explain.gather import MOST_BEFORE, Facts
from relay.explain.render import STATES, Explanation, explanation_of
from relay.explain.routes import BrokerAnswer, Messages, Route
from signalbus_core.lowlevel import UNDELETED, FailureRecord, FoundSignal, Holder, Pause, SentSignal, Standing
from signalbus_core.model.sending.sent_messages import SentMessage

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
FOUND = FoundSignal(NOW - timedelta(seconds=90), False, "0")
PENDING = Facts("Order", "42", NOW, FOUND, relay_sessions=3)
PAUSE = Pause("Order", NOW - timedelta(hours=1), None)
NOTED = FailureRecord("order", "42", "Order", 3, NOW, NOW, None, "returned", "no queue")


SENT = SentSignal("Order", "1(0,1)", "42", NOW, None, date(2026, 1, 8), (SentMessage("an-id", "orders", "placed"),))


def next_try(seconds: float) -> FailureRecord:
    return replace(NOTED, next_try_at=NOW + timedelta(seconds=seconds))


EACH = {
    "absent": Facts("Order", "42", NOW),
    "sent": Facts("Order", "42", NOW, sent=(SENT,)),
    "table-locked": Facts("Order", "42", NOW, is_table_locked=True),
    "scheduled": replace(PENDING, found=replace(FOUND, due_at="2030-01-01T00:00:00Z", due_seconds=60.0)),
    "left-out": replace(PENDING, found=replace(FOUND, is_signal=False)),
    "locked": replace(PENDING, found=replace(FOUND, is_locked=True)),
    "parked": replace(PENDING, failed=NOTED),
    "waiting": replace(PENDING, failed=next_try(60)),
    "paused": replace(PENDING, pause=PAUSE),
    "blocked": replace(PENDING, standing=Standing("41", 3, 2), blocked_by=replace(NOTED, key="41")),
    "pending": PENDING,
}


@pytest.mark.parametrize("state", STATES)
def test_each_story_says_state_first_and_at_end_what_to_do(state: str) -> None:
    explanation = explanation_of(EACH[state])
    assert explanation.state == state
    assert "Order" in explanation.sentences[0]
    assert explanation.to_do.endswith(".")
    assert "\n" not in "".join(explanation.sentences) + explanation.to_do


def said(explanation: Explanation, text: str) -> bool:
    return any(text in sentence for sentence in explanation.sentences)


def test_signal_tried_again_soon_tells_when_and_one_due_says_so() -> None:
    assert explanation_of(EACH["waiting"]).sentences[0].endswith("at 2026-01-01T12:01:00Z, 1 min 0 s from now.")
    assert explanation_of(replace(PENDING, failed=next_try(0))).sentences[0].endswith("which is due.")


def test_a_parked_signal_of_a_paused_model_tells_of_both() -> None:
    explanation = explanation_of(replace(EACH["parked"], pause=PAUSE))
    assert explanation.state == "parked"
    assert said(explanation, "is paused since 2026-01-01T11:00:00Z")
    assert "parked retry Order 42" in explanation.to_do
    assert "resume Order" in explanation.to_do


def test_a_blocked_signal_tells_by_what_since_when_and_how_many_wait() -> None:
    explanation = explanation_of(EACH["blocked"])
    assert explanation.sentences[0] == (
        "Order 42 is blocked by Order 41 of the same key, parked since 2026-01-01T12:00:00Z; 5 wait behind it: "
        "returned: no queue"
    )
    assert "3 signals of its key come before it." in explanation.sentences
    assert "`parked skip Order 41`" in explanation.to_do


@pytest.mark.parametrize("is_parked", [True, False])
def test_of_a_signal_that_was_sent_only_the_delete_is_told(is_parked: bool) -> None:
    failed = replace(NOTED if is_parked else next_try(60), error_class=UNDELETED, error_text="a foreign key")
    explanation = explanation_of(replace(PENDING, failed=failed))
    assert explanation.state == ("parked" if is_parked else "waiting")
    assert said(explanation, "It was sent, at 2026-01-01T12:00:00Z at the latest, and is never sent again")
    assert said(
        explanation, "cannot be deleted, which was tried 3 times in a row, last at 2026-01-01T12:00:00Z: a foreign key"
    )
    if is_parked:
        assert explanation.sentences[0].endswith(
            "is parked: it was sent; it cannot be deleted, and waits for a person."
        )
        assert "tries its delete, not its send" in explanation.to_do
    else:
        assert said(explanation, "delete")
        assert not said(explanation, "failed")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (0, "It comes next"),
        (1, "One signal of its model comes before it"),
        (2, "2 signals of its model come before it"),
        (MOST_BEFORE, "More than 10000 signals"),
    ],
)
def test_how_many_come_before_it_is_told(before: int, text: str) -> None:
    assert said(explanation_of(replace(PENDING, before=before)), text)


def test_the_holder_of_a_lock_is_a_relay_or_has_to_end() -> None:
    sending = explanation_of(replace(EACH["locked"], holder=Holder(7, "signalbus-relay", "idle in transaction", 1.0)))
    assert "a relay is sending it" in sending.to_do
    other = explanation_of(replace(EACH["locked"], holder=Holder(7, "psql", "idle in transaction", 7200.0)))
    assert said(other, "pid 7 (psql), idle in transaction, in a transaction for 2 h 0 min")
    assert "pg_terminate_backend(7)" in other.to_do
    hidden = explanation_of(replace(EACH["table-locked"], holder=Holder(7, "", None, None)))
    assert said(hidden, "by the session with pid 7.")


def test_without_a_relay_one_has_to_be_started() -> None:
    explanation = explanation_of(replace(PENDING, relay_sessions=0))
    assert said(explanation, "No session of a relay")
    assert explanation.to_do == "Make sure that a relay runs: `signalbus-relay run`."


def test_what_the_broker_or_the_code_lacks_is_what_to_do_first() -> None:
    messages = Messages((Route("orders", "placed"), Route("orders", "billed")))
    answers = [BrokerAnswer("The exchange 'orders' does not exist.", "Declare the exchange 'orders'.")]
    explanation = explanation_of(PENDING, messages, answers)
    assert said(explanation, "Its message 2 goes to exchange 'orders' with routing key 'billed'.")
    assert explanation.to_do == "Declare the exchange 'orders'."
    assert explanation_of(EACH["waiting"], messages, answers).to_do.startswith(
        "Declare the exchange 'orders'; `signalbus-relay"
    )
    broken = explanation_of(PENDING, Messages(trouble="ValueError: no"))
    assert broken.to_do == "Mend signalbus_message, or the signal."


def test_a_signal_that_is_returned_names_binding_that_is_missing() -> None:
    waiting = EACH["waiting"]
    one = explanation_of(waiting, Messages((Route("orders", "placed"),)))
    assert one.to_do.startswith("Bind a queue to exchange 'orders' with routing key 'placed'; `signalbus-relay parked")
    assert explanation_of(waiting, Messages((Route("", "billing"),))).to_do.startswith("Declare the queue 'billing'; ")
    two = explanation_of(
        waiting, Messages((Route("orders", "placed"), Route("", "billing"), Route("orders", "placed")))
    )
    assert two.to_do.startswith(
        "Bind a queue to exchange 'orders' with routing key 'placed', or declare the queue 'billing', whichever is "
        "missing; "
    )
    missing = [BrokerAnswer("The exchange 'orders' does not exist.", "Declare the exchange 'orders'.")]
    assert explanation_of(waiting, Messages((Route("orders", "placed"),)), missing).to_do.startswith(
        "Declare the exchange"
    )
    nacked = replace(waiting, failed=replace(next_try(60), error_class="nacked"))
    assert explanation_of(nacked, Messages((Route("orders", "placed"),))).to_do.startswith("Mend the cause; ")


def test_names_and_keys_can_be_pasted_into_a_shell() -> None:
    odd = replace(EACH["parked"], model="shop.models.Order", key='["1", "it\'s"]')
    assert """parked retry shop.models.Order '["1", "it'"'"'s"]'""" in explanation_of(odd).to_do


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("-5", "-- Order -5"),
        ("it's", """Order 'it'"'"'s'"""),
        ("a\n\x1b[2J", r"Order $'a\U0000000a\U0000001b[2J'"),
        ("\u202e42", r"Order $'\U0000202e42'"),
    ],
)
def test_odd_keys_stay_one_word_of_the_command(key: str, words: str) -> None:
    assert f"`signalbus-relay parked retry {words}`" in explanation_of(replace(EACH["parked"], key=key)).to_do


def test_signal_that_a_relay_holds_while_broker_is_blocked_waits_for_broker() -> None:
    sending = replace(EACH["locked"], holder=Holder(7, "signalbus-relay", "idle in transaction", 1.0))
    blocked = [BrokerAnswer("It takes no messages: low on disk.", "Free disk space of the broker.")]
    assert explanation_of(sending, answers=blocked).to_do == "Free disk space of the broker."
    other = replace(sending, holder=Holder(7, "psql", "idle in transaction", 1.0))
    assert "pg_terminate_backend(7)" in explanation_of(other, answers=blocked).to_do
