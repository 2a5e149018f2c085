"""The actions that the page offers: what each asks for, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .operations import Operations

#: Given what the action is about, the reason, and the operator's address; returns what was done, in words.
Act = Callable[[Operations, Mapping[str, str], "str | None", str], str]


@dataclass(frozen=True)
class Form:
    """An action.

    :param names: the fields that say what it is about.
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
