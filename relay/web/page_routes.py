"""The routes of the page, and its actions: the form of each, and what it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from werkzeug.exceptions import HTTPException, NotFound

from ..operations.runbook import runbook_text
from ..text import redacted
from . import validation as field
from .actions import MOST_DISCARDED, NO_RECORD, Operations
from .auth import NO_TOKEN, Guard
from .failed_cache import LAST_PAGE, FailedSignalsCache, Shown
from .status_report import StatusReport, moment
from .template_helpers import HEADERS

#: Takes the fields of the action, the reason, and the operator's address; returns what was done, in words.
Act = Callable[[Operations, Mapping[str, str], "str | None", "str | None"], str]


@dataclass(frozen=True)
class Form:
    """The form of an action.

    :param done: the heading after success.
    :param names: the fields that identify its model or signal.
    :param is_final: it cannot be undone.
    """

    path: str
    title: str
    text: str
    button: str
    done: str
    names: tuple[str, ...]
    act: Act
    asks_reason: bool = False
    is_final: bool = False


def _retry(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    operations.retry(subject["model"], subject["key"], address)
    return "The signal will be tried again at once, by whichever relay comes first."


def _retry_group(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    number = operations.retry(subject["model"], None, address, subject["group"])
    return f"They will be tried again at once, by whichever relay comes first: {number:,}."


def _discard_group(operations: Operations, subject: Mapping[str, str], _reason: str | None, address: str | None) -> str:
    most = field.number(subject, "number", MOST_DISCARDED, 1, field.MOST_FAILED)
    number, left = operations.discard_group(subject["model"], subject["group"], most, address)
    rest = f" {left:,} more of them are left." if left else ""
    return f"Discarded: {number:,}. Their rows are in the relay's record file.{rest}"


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
        "Tried again",
        ("model", "key"),
        _retry,
    ),
    Form(
        "retry-group",
        "Try these signals again?",
        "They are tried at once, even if their next try is due later.",
        "Try all again",
        "Tried again",
        ("model", "group"),
        _retry_group,
    ),
    Form(
        "discard-group",
        "Discard these signals?",
        "They will never be sent. Their rows are written to the relay's record file, then deleted, at most "
        f"{MOST_DISCARDED} at a time. This cannot be undone.",
        "Discard them for good",
        "Discarded",
        ("model", "group", "number"),
        _discard_group,
        is_final=True,
    ),
    Form(
        "discard",
        "Discard this signal?",
        "It will never be sent. Its row is written to the relay's record file, then deleted. This cannot be undone.",
        "Discard for good",
        "Discarded",
        ("model", "key"),
        _discard,
        is_final=True,
    ),
    Form(
        "pause",
        "Pause this signal model?",
        "All relays leave its signals in their table until it is resumed. Bursts in flight end as they would.",
        "Pause",
        "Paused",
        ("model",),
        _pause,
        asks_reason=True,
    ),
    Form(
        "resume",
        "Resume this signal model?",
        "All relays send its signals again, those that were written meanwhile too.",
        "Resume",
        "Resumed",
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


def page_routes(report: StatusReport, view: FailedSignalsCache, operations: Operations, guard: Guard) -> Blueprint:
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def index() -> ResponseReturnValue:
        query = field.query("model", "group", "page")
        number = field.number(query, "page", 1, 1, LAST_PAGE)
        model, group = field.optional_text(query, "model"), field.optional_text(query, "group")
        failed = view.show(Shown(model, group, number))
        status: Any = redacted(report.as_object(failed.counts()))
        text = render_template(
            "page.html",
            status=status,
            connections=_connections(status),
            replicas=[_replica(one) for one in status["replicas"]],
            failed=failed,
            last_page=LAST_PAGE,
            can_act=guard.has_token,
            can_discard=operations.can_discard,
            now=moment(time.time()),
        )
        return text, HEADERS

    @routes.get("/runbook")
    def runbook() -> ResponseReturnValue:
        section = field.optional_text(field.query("section"), "section")
        text = runbook_text(section)
        if text is None:
            raise NotFound("The runbook has no such section.")
        return render_template("runbook.html", title=section or "Runbook", text=text, home="./"), HEADERS

    for form in FORMS:
        routes.add_url_rule(f"/{form.path}", view_func=_FormView.as_view(form.path, form, operations, guard, view))
    return routes


class _FormView(MethodView):
    """Asks before an action, and carries it out."""

    init_every_request = False

    def __init__(self, form: Form, operations: Operations, guard: Guard, view: FailedSignalsCache) -> None:
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
            "action.html",
            form=self._form,
            done=None,
            subject=subject,
            group=self._view.group(subject["model"], subject["group"]) if "group" in subject else None,
            problem=problem,
            can_act=can_act,
            home="./",
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


def _replica(replica: Mapping[str, Any]) -> dict[str, Any]:
    level, text = _CONDITIONS.get(replica["broker"], ("attention", replica["broker"]))
    stopped: dict[tuple[str, str | None], list[str]] = {}
    for one in replica["not_flowing"]:
        stopped.setdefault((one["state"], one["reason"]), []).append(one["model"])
    return {**replica, "level": level, "text": text, "stopped": stopped}


def _named(kind: str, name: str, all_of_them: list[Any]) -> str:
    return kind if len(all_of_them) == 1 else f"{kind} {name}"
