"""The facts in the database about one signal. The transaction is rolled back, with a short lock timeout."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, OperationalError

from signalbus_core.lowlevel import (
    SENT,
    BurstLimits,
    Choice,
    FailureRecord,
    FoundSignal,
    Holder,
    Key,
    LeaveOut,
    Pause,
    SentFilter,
    SentSignal,
    SignalSpec,
    Standing,
    locate,
    parked,
    parked_table_of,
    parked_table_problem,
    sent,
    standing,
)

from ..application.databases import APPLICATION_NAME, Databases
from ..exit_codes import CommandError
from ..operations.pauses import list_pauses
from ..poller.diagnosis.unreadable import Unreadable
from ..poller.joint_query import is_lock_timeout
from ..telemetry.remedies import remedy_for

#: The signals before this one are counted up to this number. Larger: exact for longer backlogs, at a higher cost.
MOST_BEFORE = 10_000

#: Of the signals that were sent under the key, so many are told of. There are several where keys come again.
MOST_SENT = 5

#: The lock timeout is short, so that a locked table is reported soon.
LIMITS = BurstLimits(statement_timeout_seconds=20.0, lock_timeout_seconds=2.0, idle_timeout_seconds=60.0)


@dataclass(frozen=True)
class Facts:
    """The facts about one signal.

    :param key: as the database writes it.
    :param found: None when it is not in its table, and while the table is locked.
    :param failed: its row in ``signalbus_parked``.
    :param pause: of its model.
    :param before: how many signals a relay takes before it.
    :param holder: the session that has locked its row, or its whole table; None when it is not known.
    :param is_table_locked: the table is locked exclusively, so nothing else is known.
    :param sequence_has_returned: whether the key's sequence has reached this value; None when that is not known.
    :param sent: when it was sent, the last first, as far as that is kept; None where nothing is kept of its model.
    :param relay_sessions: how many sessions of relays the database has.
    :param standing: its place among the signals of its key; None when it has none.
    :param blocked_by: the failed signal of its key that holds it back.
    """

    model: str
    key: str
    now: datetime
    found: FoundSignal | None = None
    failed: FailureRecord | None = None
    pause: Pause | None = None
    before: int = 0
    holder: Holder | None = None
    is_table_locked: bool = False
    sequence_has_returned: bool | None = None
    relay_sessions: int = 0
    standing: Standing | None = None
    blocked_by: FailureRecord | None = None
    sent: tuple[SentSignal, ...] | None = None


class NoSuchKey(Exception):
    """The text is no key of the model; the error's text shows the format of a key."""


def gather(databases: Databases, spec: SignalSpec, text: str) -> tuple[Facts, Key | None]:
    """The facts about the signal with this key; and the key, when the signal is in its table.

    :raises NoSuchKey: the text is no key of the model.
    """
    with databases.rolled_back(spec.bind_key) as connection:
        try:
            return _gather(connection, spec, text)
        except DataError as error:
            reason = Unreadable(lambda: databases.rolled_back(spec.bind_key)).why(spec, error)
            raise CommandError(f"{reason}. To do: {remedy_for('model_unread', reason).text}") from None
        except OperationalError as error:
            # SKIP LOCKED skips locked rows, but not a locked table.
            if not is_lock_timeout(error):
                raise
    with databases.rolled_back(spec.bind_key) as connection:
        holder = locate.table_holder(connection, spec)
        return Facts(spec.name, text, _now(), holder=holder, is_table_locked=True), None


def _gather(connection: Connection, spec: SignalSpec, text: str) -> tuple[Facts, Key | None]:
    if connection.dialect.name != "postgresql":
        raise CommandError(f"The signals of {spec.name} are not in PostgreSQL; of others nothing can be told.")
    found_key = locate.key_of_text(connection, spec, text)
    if found_key is None:
        raise NoSuchKey(_what_a_key_is(spec, text))
    key, key_text = found_key
    found = locate.find_signal(connection, spec, key)
    is_locked = found is not None and bool(found.is_locked)
    has_parked = parked_table_problem(connection, parked_table_of(spec)) is None
    noted = parked.records_of_row(connection, spec, key, key_text) if has_parked else []
    choice = Choice(LeaveOut.FAILED if has_parked else LeaveOut.NOTHING)
    place = standing(connection, spec, key, has_parked_table=has_parked) if found else None
    blocked_by = None
    if place is not None and place.head != key_text and has_parked:
        blocked_by = next(iter(parked.list_failed(connection, spec, place.head)), None)
    before = 0 if place is None else place.before
    if found is not None and place is None:
        before = locate.count_before(connection, spec, key, choice, MOST_BEFORE)
    return Facts(
        spec.name,
        key_text,
        _now(),
        found,
        next(iter(noted), None),
        next(iter(list_pauses(connection, [spec])), None),
        before,
        locate.row_holder(connection, found.last_locker) if found and is_locked else None,
        sequence_has_returned=None if found else locate.sequence_has_returned(connection, spec, key),
        relay_sessions=locate.count_sessions(connection, APPLICATION_NAME),
        standing=place,
        blocked_by=blocked_by,
        sent=None if found else _sent(connection, spec, text),
    ), (key if found else None)


def _sent(connection: Connection, spec: SignalSpec, text: str) -> tuple[SentSignal, ...] | None:
    """When the signal with this key was sent; None where nothing is kept of its model."""
    if SENT.problem(connection, SENT.of(spec)) is not None:
        return None
    key = sent.key_text_of(connection, spec, text)
    found = () if key is None else tuple(sent.list_sent(connection, spec, SentFilter(key), MOST_SENT))
    return found if found or spec.keep_days is not None else None


def _what_a_key_is(spec: SignalSpec, text: str) -> str:
    columns = ", ".join(f"{column.name} ({column.type})" for column in spec.primary_key)
    form = "" if len(spec.primary_key) == 1 else " A key of several columns is a JSON array of texts."
    return f"{text!r} is no key of {spec.name}, whose key is {columns}.{form}"


def _now() -> datetime:
    return datetime.now(timezone.utc)
