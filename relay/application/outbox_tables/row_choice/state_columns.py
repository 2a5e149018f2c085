"""Recognises columns that mean that not every row is to be sent: a state, an owner, a time, a position in a log.

Pure. They are recognised by name and type. Names are compared without case, underscores and quotes, because
``"ProcessedAt"``, ``processed_at`` and ``processedat`` are the same to the libraries that make such tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from ..catalog import ColumnFacts
from ..field_types import BYTES, INTEGERS, MOMENTS, STRINGS


class Meaning(Enum):
    """The meaning of a state column."""

    STATE = "a state"
    SENT = "a time of sending"
    OWNER = "an owner or a lock"
    NOT_BEFORE = "a time not before"
    READY = "a mark of the rows to send"
    POSITION = "a position in a log, whose readers remember elsewhere how far they are"


_NUMBERS = INTEGERS | {"numeric", "float4", "float8"}

#: The column types of each meaning; libraries store times also as numbers and as texts.
TYPES: dict[Meaning, frozenset[str]] = {
    Meaning.STATE: STRINGS | _NUMBERS | {"enum", "bool"},
    Meaning.SENT: MOMENTS,
    Meaning.OWNER: MOMENTS | STRINGS | _NUMBERS | BYTES | {"bool", "uuid"},
    Meaning.NOT_BEFORE: MOMENTS | _NUMBERS | STRINGS,
    Meaning.READY: frozenset({"bool"}),
    Meaning.POSITION: INTEGERS | {"numeric"},
}

#: Verbs for what was done with a row. Alone, with ``is``, or with a suffix for a time.
DONE = (
    "sent published processed dispatched delivered completed handled relayed forwarded acknowledged acked "
    "confirmed finished finalized done consumed transmitted propagated pushed exported synced executed performed "
    "succeeded successful transferred delivery_completed failed dead deadlettered discarded cancelled canceled "
    "aborted abandoned skipped archived deleted blocked poisoned rejected errored expired removed ignored suspended ack"
)

#: Names of state columns.
STATES = (
    "pending unsent unpublished unprocessed undelivered undispatched processing sending publishing inprogress "
    "inflight delivery_complete delivery_aborted completion completion_date completion_time send_date send_status"
)

#: Names of columns with the process that has taken a row.
OWNERS = (
    "locked leased claimed reserved picked fetched acquired taken lock lease claim lock_id lock_token lock_owner "
    "lock_instance_id lease_id lease_owner lease_token claim_id claim_token worker_id consumer_lock processing_started"
)

#: Names of columns with the time until which a row is not to be sent.
NOT_BEFORE = (
    "not_before available scheduled visible due eligible due_date due_time enqueue_time schedule_time "
    "scheduled_for execution_time run_at run_after start_at start_after send_at send_after send_on deliver_at "
    "deliver_after deliver_on publish_at publish_after process_at process_after dispatch_at dispatch_after "
    "execute_at execute_after fire_at trigger_at retry_at retry_after release_at hold_until delay_until "
    "delayed_until delayed_to deferred_until postponed_until snoozed_until embargo_until available_from "
    "available_after visible_from visible_after valid_from effective_at effective_from active_from "
    "invisible_until visibility_timeout locked_until lock_until leased_until lease_until reserved_until "
    "claimed_until processing_until lock_expires lease_expires lock_expires_at lock_expires_on lease_expires_at "
    "lease_expires_on lock_expiration lock_expiry lease_expiry vt eta nbf not_visible_until hide_until hidden_until "
    "wait_until backoff_until ready ready_to_retry_after redeliver_after planned planned_for earliest"
)

#: Names of booleans that are true in the rows that are to be sent.
READY = (
    "visible available eligible due ready queued enqueued active enabled new unread open to_send to_publish to_process "
    "to_dispatch to_deliver to_relay send publish process dispatch deliver relay retry retryable"
)

#: Names of columns with the position of a row in a log.
POSITIONS = "offset log_offset global_offset global_index global_position global_sequence log_position ev_txid"

_THING = "(?:message|msg|event|outbox|record|row|entry|job|task|signal)?"
_WAS = "(?:is|was|has|hasbeen|been|already|date|time|when)?"
_WHEN = "(?:at|on|time|date|datetime|timestamp|ts|flag)?(?:utc|ms|millis)?"
_NEXT = (
    "next(?:attempt|try|retry|run|delivery|send|publish|processing|process|execution|dispatch|poll|schedule|visible)"
)


def _words(words: str) -> str:
    return "(?:" + words.replace("_", "").replace(" ", "|") + ")"


_STATE_NAME = re.compile(
    rf"{_THING}(?:current|sen[dt]|sending|publish|publishing|publication|process|processing|processed|dispatch|delivery"
    r"|relay|transfer|sync)?(?:status|state)(?:id|name|code|value|type|text)?"
)
_DONE_NAME = re.compile(rf"{_WAS}{_THING}{_WAS}(?:{_words(DONE)}|{_words(STATES)}){_WHEN}")
_OWNER_NAME = re.compile(rf"{_WAS}{_THING}{_WAS}{_words(OWNERS)}(?:by|{_WHEN})")
_READY_NAME = re.compile(rf"(?:is|was|has|can|must|should|needs?)?{_THING}{_words(READY)}(?:flag)?")
_POSITION_NAME = re.compile(_words(POSITIONS))
_NOT_BEFORE_NAME = re.compile(
    rf"{_THING}(?:{_words(NOT_BEFORE)}|{_NEXT})(?:at|on|time|date|after|until)?(?:utc|ms|millis)?"
)

#: The types of columns whose names may have any prefix before a participle.
_MARKS = MOMENTS | {"bool", "int2", "bpchar"}

#: With any prefix: ``kafka_published_at``, ``"OrderStatus"``.
_ENDS_LIKE_A_STATE = re.compile(r"(?:.+_)?(?:status|state)(?:_(?:id|name|code|value|type|text))?")
_ENDS_LIKE_DONE = re.compile(rf"(?:.+_)?(?:{DONE.replace(' ', '|')})(?:_(?:at|on|time|date|utc|flag))*")

#: A literal as the default of a column: that value means "not yet".
_CONSTANT = re.compile(r"'[^']*'")


@dataclass(frozen=True)
class StateColumn:
    """A column and its meaning."""

    column: ColumnFacts
    meaning: Meaning


def state_columns(columns: Iterable[ColumnFacts], used: Collection[str]) -> list[StateColumn]:
    """The columns that mean that not every row is to be sent.

    :param used: the names of the columns that are fields of the message, and so are no state columns.
    """
    found = [(column, _meaning(column)) for column in columns if column.name not in used]
    return [StateColumn(column, meaning) for column, meaning in found if meaning is not None]


def _meaning(column: ColumnFacts) -> Meaning | None:
    meaning = _named(column.name, column.type_name)
    if meaning is None or column.type_name not in TYPES[meaning]:
        return None
    if meaning is Meaning.SENT and _is_in_every_row(column):
        return None
    return meaning


def _named(name: str, type_name: str) -> Meaning | None:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    letters = re.sub(r"[^a-z0-9]", "", words)
    if type_name == "bool" and _READY_NAME.fullmatch(letters):
        return Meaning.READY
    if _POSITION_NAME.fullmatch(letters):
        return Meaning.POSITION
    if _NOT_BEFORE_NAME.fullmatch(letters):
        return Meaning.NOT_BEFORE
    if _STATE_NAME.fullmatch(letters) or _ENDS_LIKE_A_STATE.fullmatch(words):
        return Meaning.STATE
    if _DONE_NAME.fullmatch(letters) or (type_name in _MARKS and _ENDS_LIKE_DONE.fullmatch(words)):
        return Meaning.SENT if type_name in MOMENTS else Meaning.STATE
    # An int4 owner id is that of a sending node; a wider one may be that of a customer.
    if _OWNER_NAME.fullmatch(letters) or (letters == "ownerid" and type_name == "int4"):
        return Meaning.OWNER
    return None


def _is_in_every_row(column: ColumnFacts) -> bool:
    """Whether a time is set in every row from the start, so that no value means "not yet"."""
    return column.is_required and not _CONSTANT.match(column.default or "")
