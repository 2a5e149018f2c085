"""``signalbus-relay explain``: the state of one signal, and why it is not sent."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from signalbus_core.rabbitmq import Publisher

from ..application.databases import Databases
from ..application.load import LoadedApp
from ..config.click_options import with_application
from ..exit_codes import EXIT_OK, EXIT_RUNTIME
from ..explain.gather import LIMITS, Facts, NoSuchKey, gather
from ..explain.render import Explanation, explanation_of
from ..explain.routes import BrokerAnswer, Messages, Route, messages_of, query_broker
from ..operations.backlog import Backlogs
from ..operations.sent import as_json as sent_as_json
from ..telemetry.states import Cause, ModelState
from ..text import redact, say, say_data, time_text
from .shared import NO_BROKER, broker_cause, broker_finding, failing_with_1, load, readable_key, use_broker

COLOURS = {"absent": "red", "table-locked": "red", "parked": "red", "waiting": "yellow", "paused": "yellow"}


@click.command(
    epilog="Example: signalbus-relay explain --app shop:create_app OrderPlaced 42\n\n"
    "Exit codes: 0 explained, 1 it is neither in its table nor known to be sent, or the table cannot be read, 2 wrong "
    "usage."
)
@click.argument("model")
@click.argument("key", callback=readable_key)
@click.option(
    "--broker/--no-broker",
    "asks_broker",
    default=True,
    show_default=True,
    help="Ask the broker whether it answers, and for the exchanges of its messages.",
)
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
@with_application
def explain(model: str, key: str, asks_broker: bool, is_json: bool, **given: Any) -> None:
    """Explain where a signal is, why it is not sent, and what to do. A KEY of several columns is a JSON array of texts.

    It changes nothing. The application makes the signal's messages, of which exchange and routing key are shown, in a
    read-only transaction that is rolled back.
    """
    environ: Mapping[str, str] = click.get_current_context().obj
    loaded = load(given)
    with failing_with_1():
        facts, messages = _gather(loaded, model, key)
        routes = messages.routes if asks_broker and messages is not None else ()
        problem = broker_finding(loaded, given, environ) if asks_broker and facts.found is not None else None
        was_returned = facts.failed is not None and facts.failed.error_class == "returned"
        answers = _query_broker(loaded, given, environ, routes, was_returned=was_returned) if routes else []
        if problem is not None and problem.code == "broker-blocked":
            # First, because nothing is sent while the alarm is in force, wherever it goes.
            text = f"The broker {problem.subject} is blocked: {problem.problem}."
            answers = [BrokerAnswer(text, problem.remedy), *answers]
        model_state = _model_state(loaded, model, broker_cause(problem))
    explanation = explanation_of(facts, messages, answers, model_state)
    if is_json:
        say_data(json.dumps({**as_json(facts, messages, answers, explanation), "model_state": model_state.word}))
    else:
        first, *rest = explanation.sentences
        say(first, colour=COLOURS.get(explanation.state), environ=environ)
        for sentence in rest:
            say(f"- {sentence}")
        say(f"To do: {explanation.to_do}")
    sys.exit(EXIT_RUNTIME if explanation.state == "absent" else EXIT_OK)


def _model_state(loaded: LoadedApp, model: str, problem: Cause | None) -> ModelState:
    [backlog] = Backlogs(Databases(loaded, LIMITS), lambda: problem).measure((model,))
    if problem is not None and backlog.reason == problem.reason:
        # The broker's answer gives the rest of it, with the remedy.
        return ModelState(backlog.state, Cause(problem.reason.partition(":")[0]))
    return ModelState(backlog.state, None if backlog.reason is None else Cause(backlog.reason, backlog.since))


def _gather(loaded: LoadedApp, model: str, key: str) -> tuple[Facts, Messages | None]:
    databases = Databases(loaded, LIMITS)
    spec = databases.spec(model)
    try:
        facts, found_key = gather(databases, spec, key)
    except NoSuchKey as error:
        raise click.BadParameter(str(error), param_hint="KEY") from None
    return facts, None if found_key is None else messages_of(loaded.app, loaded.bus, spec, found_key)


def _query_broker(
    loaded: LoadedApp,
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    routes: Sequence[Route],
    *,
    was_returned: bool,
) -> list[BrokerAnswer]:
    """The answers of the broker that a relay with the same environment uses."""
    try:
        use_broker(loaded, given, environ)
    except NO_BROKER as error:
        return [BrokerAnswer(f"The broker cannot be asked: {error}", "Correct the URL of the broker.")]
    # It exists: messages are known only of a RabbitMQSignal, which needs a publisher.
    publisher: Publisher = loaded.app.extensions["signalbus_rabbitmq"]
    return list(query_broker(publisher.bound_to(loaded.app), routes, was_returned=was_returned))


def as_json(
    facts: Facts, messages: Messages | None, answers: Sequence[BrokerAnswer], explanation: Explanation
) -> dict[str, Any]:
    """The explanation and its facts as JSON."""
    found, failed, pause = facts.found, facts.failed, facts.pause
    return {
        "model": facts.model,
        "key": facts.key,
        "state": explanation.state,
        "story": [redact(sentence) for sentence in explanation.sentences],
        "to_do": redact(explanation.to_do),
        "written_at": time_text(found.written_at) if found else None,
        "due_at": found.due_at if found else None,
        "before": facts.before if found else None,
        "holder": asdict(facts.holder) if facts.holder else None,
        "attempts": failed.attempts if failed else None,
        "next_try_at": time_text(failed.next_try_at) if failed else None,
        "sent": None if facts.sent is None else [sent_as_json(one) for one in facts.sent],
        "paused_at": time_text(pause.paused_at) if pause else None,
        "relay_sessions": None if facts.is_table_locked else facts.relay_sessions,
        "messages": None if messages is None else [asdict(route) for route in messages.routes],
        "broker": [{"text": redact(answer.text), "remedy": answer.remedy} for answer in answers],
    }
