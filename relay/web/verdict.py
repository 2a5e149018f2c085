"""The head of the status report: whether signals flow, in a sentence; why, since when, and what to do. Pure.

Invariant: it is as bad as the worst state of a model, and tells each cause once, however many models have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..telemetry.health import BROKER_AWAY, BROKER_BLOCKED, DATABASE_AWAY
from ..telemetry.remedies import Remedy, remedy_for
from ..telemetry.states import ModelState
from ..text import moment

#: The headline names so many models. Larger: longer headlines.
MOST_NAMED = 3

#: Conditions of servers of which a relay gets nothing: how that is told, and the action of its log lines.
_AWAY = {
    ("database", "down"): (DATABASE_AWAY, "database_down"),
    ("broker", "down"): (BROKER_AWAY, "broker_down"),
    ("broker", "blocked"): (BROKER_BLOCKED, "broker_blocked"),
}


@dataclass(frozen=True)
class Verdict:
    """The head of the report.

    :param level: ``flowing``, ``attention`` or ``stopped``.
    :param notes: what else needs attention.
    :param remedy: what to do about what the text names.
    """

    level: str
    text: str
    notes: tuple[str, ...] = ()
    remedy: Remedy | None = None

    def as_object(self) -> dict[str, Any]:
        remedy = self.remedy
        return {
            "level": self.level,
            "text": self.text,
            "notes": list(self.notes),
            "to_do": remedy and remedy.text,
            "runbook": remedy and remedy.runbook,
        }


def verdict_of(readiness: Mapping[str, Any], states: Mapping[str, ModelState], notes: Sequence[str]) -> Verdict:
    """:param notes: what needs attention beside the states in which signals do not flow."""
    if readiness["state"] != "running":
        return Verdict("stopped", f"Signals cannot flow: the relay is {readiness['state']}.", tuple(notes))
    causes = [*_of_servers(readiness), *_of_models(readiness, states)]
    if not causes and not readiness["ready"]:
        causes = [(f"Signals cannot flow: {readiness['reasons'][0]}.", remedy_for("model_failing", ""))]
    if causes:
        (text, remedy), *others = causes
        return Verdict("stopped", text, (*(other for other, _ in others), *notes), remedy)
    behind = {name: state for name, state in states.items() if state.word == "behind"}
    if behind:
        [(text, remedy), *others] = _told(behind, "are behind")
        return Verdict("attention", text, (*(other for other, _ in others), *notes), remedy)
    return Verdict("attention", "Signals flow, with exceptions.", tuple(notes)) if notes else FLOWING


FLOWING = Verdict("flowing", "Signals flow.")


def _of_servers(readiness: Mapping[str, Any]) -> Iterator[tuple[str, Remedy | None]]:
    for thing in ("database", "broker"):
        known = readiness[thing]
        if known["condition"] == "unknown":
            yield f"Signals cannot flow: of the {thing} nothing is known yet.", None
        if (told := _AWAY.get((thing, known["condition"]))) is not None:
            what, action = told
            since = f"since {known['since'][11:16]} UTC"
            reason = str(known["reason"])
            yield f"Signals cannot flow: {what} {since}: {reason.rstrip('.')}.", remedy_for(action, reason)


def _of_models(readiness: Mapping[str, Any], states: Mapping[str, ModelState]) -> Iterator[tuple[str, Remedy | None]]:
    stuck = {name: states[name] for name in readiness["stuck_models"] if name in states}
    yield from _told({name: one for name, one in stuck.items() if one.word == "blocked"}, "do not flow")
    yield from _told({name: one for name, one in states.items() if one.word == "failing"}, "fail")


def _told(states: Mapping[str, ModelState], verb: str) -> Iterator[tuple[str, Remedy | None]]:
    """A sentence for each reason, with the models that have it."""
    together: dict[str | None, list[str]] = {}
    for name, state in states.items():
        together.setdefault(state.reason, []).append(name)
    for reason, names in together.items():
        first = states[names[0]]
        since = "" if first.since is None else f" since {moment_text(first.since)}"
        why = "" if reason is None else f": {reason.rstrip('.')}"
        yield f"Signals of {_listed(names)} {verb}{since}{why}.", first.remedy


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"


def moment_text(seconds: float) -> str:
    return f"{moment(seconds):%H:%M} UTC"
