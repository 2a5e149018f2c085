"""What people see: the status page, and a page for each action that shows what will be done, and asks for the token.

All of it works without JavaScript. No page keeps a token, and none ever stands in a URL.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ..logs import redacted
from . import fields as field
from .app import Handler
from .forms import FORMS, Form
from .guard import NO_TOKEN, Guard
from .http import FORM, Answer, HttpError, Request
from .operations import NO_RECORD, Operations
from .report import Report, moment
from .set_aside import LAST_PAGE, SetAsideView
from .templates import page

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
        # What was left empty was not given.
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
