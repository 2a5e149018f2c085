"""The routes of the page, and its actions: the form of each, and what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from werkzeug.exceptions import HTTPException

from ..text import redacted
from . import validation as field
from .actions import NO_RECORD, Operations
from .auth import NO_TOKEN, Guard
from .parked_view import LAST_PAGE, FailedSignalsView
from .status_report import StatusReport, moment
from .templates import HEADERS

#: Takes the fields of the action, the reason, and the operator's address; returns what was done, in words.
Act = Callable[[Operations, Mapping[str, str], "str | None", "str | None"], str]


@dataclass(frozen=True)
class Form:
    """The form of an action.

    :param names: the fields that identify its model or signal.
    :param is_final: it cannot be undone.
    """

    path: str
    title: str
    text: str
    button: str
    names: tuple[str, ...]
    act: Act
    asks_reason: bool = False
    is_final: bool = False


def _retry(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    operations.retry(subject["model"], subject["key"], address)
    return "The signal will be tried again at once, by whichever relay comes first."


def _discard(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    operations.discard(subject["model"], subject["key"], address)
    return "The signal is discarded. Its row is in the relay's record file."


def _pause(operations: Operations, subject: Mapping[str, str], reason: str | None, address: str | None) -> str:
    was_flowing = operations.pause(subject["model"], reason, address)
    return "The model is paused." if was_flowing else "The model was paused already; its first reason stands."


def _resume(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    was_paused = operations.resume(subject["model"], address)
    return "The model flows again." if was_paused else "The model was not paused."


FORMS = (
    Form(
        "retry",
        "Try this signal again?",
        "It is tried at once, even if its next try is due later.",
        "Try again",
        ("model", "key"),
        _retry,
    ),
    Form(
        "discard",
        "Discard this signal?",
        "It will never be sent. Its row is written to the relay's record file, then deleted. This cannot be undone.",
        "Discard for good",
        ("model", "key"),
        _discard,
        is_final=True,
    ),
    Form(
        "pause",
        "Pause this signal model?",
        "All relays leave its signals in their table until it is resumed. Bursts in flight end as they would.",
        "Pause",
        ("model",),
        _pause,
        asks_reason=True,
    ),
    Form(
        "resume",
        "Resume this signal model?",
        "All relays send its signals again, those that were written meanwhile too.",
        "Resume",
        ("model",),
        _resume,
    ),
)


#: How a condition of a database or a broker is shown.
_CONDITIONS = {
    "up": ("good", "Connected"),
    "unused": ("good", "Not used"),
    "down": ("bad", "Away"),
    "blocked": ("bad", "Takes no messages"),
    "unknown": ("attention", "Not known yet"),
}


def page_routes(report: StatusReport, view: FailedSignalsView, operations: Operations, guard: Guard) -> Blueprint:
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def index() -> ResponseReturnValue:
        number = field.number(field.query("page"), "page", 1, 1, LAST_PAGE)
        status: Any = redacted(report.as_object())
        text = render_template(
            "page.html",
            status=status,
            connections=_connections(status),
            failed=view.show(number),
            last_page=LAST_PAGE,
            can_act=guard.has_token,
            can_discard=operations.can_discard,
            now=moment(time.time()),
        )
        return text, HEADERS

    for form in FORMS:
        routes.add_url_rule(f"/{form.path}", view_func=_FormView.as_view(form.path, form, operations, guard, view))
    return routes


class _FormView(MethodView):
    """Asks before an action, and carries it out."""

    init_every_request = False

    def __init__(self, form: Form, operations: Operations, guard: Guard, view: FailedSignalsView) -> None:
        self._form = form
        self._operations = operations
        self._guard = guard
        self._view = view

    def get(self) -> ResponseReturnValue:
        problem = None if self._guard.has_token else NO_TOKEN
        if self._form.is_final and not self._operations.can_discard:
            problem = NO_RECORD
        return self._confirmation(field.query(*self._form.names), problem, can_act=problem is None)

    def post(self) -> ResponseReturnValue:
        given = field.form(*self._form.names, "reason", "token")
        subject = _subject(self._form, given)
        try:
            self._guard.check_token(given.get("token", ""), request)
            reason = field.optional_text(given, "reason")
            done = self._form.act(self._operations, subject, reason, request.remote_addr)
        except HTTPException as error:
            return self._confirmation(given, error.description, can_act=self._guard.has_token, status=error.code or 500)
        self._view.forget()
        return render_template("action.html", form=self._form, done=done, home="./"), HEADERS

    def _confirmation(
        self, given: Mapping[str, str], problem: str | None, *, can_act: bool, status: int = 200
    ) -> ResponseReturnValue:
        subject = _subject(self._form, given)
        text = render_template(
            "action.html", form=self._form, done=None, subject=subject, problem=problem, can_act=can_act, home="./"
        )
        return text, status, HEADERS


def _subject(form: Form, given: Mapping[str, str]) -> dict[str, str]:
    return {name: field.text(given, name) for name in form.names}


def _connections(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    databases = [(_named("Database", one["name"], status["databases"]), one) for one in status["databases"]]
    brokers = [("Broker", one) for one in status["brokers"]]
    shown = []
    for name, one in (*databases, *brokers):
        level, text = _CONDITIONS[one["condition"]]
        shown.append({**one, "name": name, "level": level, "text": text})
    return shown


def _named(kind: str, name: str, all_of_them: list[Any]) -> str:
    return kind if len(all_of_them) == 1 else f"{kind} {name}"
