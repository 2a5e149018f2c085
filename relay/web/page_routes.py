"""The routes of the page, and its actions: the form of each, and what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from ..telemetry.log_format import redacted
from . import validation as field
from .actions import NO_RECORD, Operations
from .app import Handler
from .auth import NO_TOKEN, Guard
from .http import FORM, Answer, HttpError, Request
from .parked_view import LAST_PAGE, SetAsideView
from .status_report import Report, moment
from .templates import page

#: Takes the fields of the action, the reason, and the operator's address; returns what was done, in words.
Act = Callable[[Operations, Mapping[str, str], "str | None", str], str]


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


def _retry(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str) -> str:
    operations.retry(subject["model"], subject["key"], address)
    return "The signal will be tried again at once, by whichever relay comes first."


def _discard(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str) -> str:
    operations.discard(subject["model"], subject["key"], address)
    return "The signal is discarded. Its row is in the relay's record file."


def _pause(operations: Operations, subject: Mapping[str, str], reason: str | None, address: str) -> str:
    was_flowing = operations.pause(subject["model"], reason, address)
    return "The model is paused." if was_flowing else "The model was paused already; its first reason stands."


def _resume(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str) -> str:
    was_paused = operations.resume(subject["model"], address)
    return "The model flows again." if was_paused else "The model was not paused."


FORMS = (
    Form(
        "retry",
        "Try this signal again?",
        "It is tried at once, whatever its next try was to be.",
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


def page_routes(
    report: Report, view: SetAsideView, operations: Operations, guard: Guard
) -> dict[str, Mapping[str, Handler]]:
    """The handlers of these paths."""

    def index(request: Request) -> Answer:
        given = request.query()
        field.only(given, ("page",))
        number = field.number(given, "page", 1, 1, LAST_PAGE)
        status: Any = redacted(report.as_object())
        return page(
            "page.html",
            status=status,
            connections=_connections(status),
            set_aside=view.show(number),
            last_page=LAST_PAGE,
            can_act=guard.has_token,
            can_discard=operations.can_discard,
            now=moment(time.time()),
        )

    routes: dict[str, Mapping[str, Handler]] = {"/": {"GET": index}}
    for form in FORMS:
        routes[f"/{form.path}"] = _form_handlers(form, operations, guard, view)
    return routes


def _form_handlers(form: Form, operations: Operations, guard: Guard, view: SetAsideView) -> Mapping[str, Handler]:
    def ask(request: Request) -> Answer:
        given = request.query()
        field.only(given, form.names)
        problem = None if guard.has_token else NO_TOKEN
        if form.is_final and not operations.can_discard:
            problem = NO_RECORD
        return _form_page(form, _subject(form, given), problem, can_act=problem is None)

    def act(request: Request) -> Answer:
        # An empty field counts as not given.
        given = {name: value for name, value in request.fields(FORM).items() if value}
        field.only(given, (*form.names, "reason", "token"))
        subject = _subject(form, given)
        try:
            guard.check_token(given.get("token", ""), request)
            done = form.act(operations, subject, field.optional_text(given, "reason"), request.address)
        except HttpError as error:
            return _form_page(form, subject, str(error), can_act=guard.has_token, status=error.status)
        view.forget()
        return page("action.html", form=form, done=done, home="./")

    return {"GET": ask, "POST": act}


def _subject(form: Form, given: Mapping[str, str]) -> dict[str, str]:
    return {name: field.text(given, name) for name in form.names}


def _form_page(
    form: Form, subject: Mapping[str, str], problem: str | None, *, can_act: bool, status: HTTPStatus = HTTPStatus.OK
) -> Answer:
    return page(
        "action.html",
        status,
        form=form,
        done=None,
        facts=[(name.capitalize(), value) for name, value in subject.items()],
        hidden=list(subject.items()),
        problem=problem,
        can_act=can_act,
        home="./",
    )


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
