"""The names that only relays need, not applications. They may change between releases."""

from __future__ import annotations

from .burst.delete import delete_sent
from .burst.result import BurstResult, FailedSignal, refs_of
from .burst.send import send_burst
from .burst.size import BurstSize
from .errors import Proved, counted
from .failures import error_text, escaping_advice, is_away, is_lost, one_line, raise_if_stop, sqlstate
from .model.contract import SignalSpec
from .model.order import POSITION
from .model.schedule import SEND_AFTER, Schedule
from .posix_signals import STOP_SIGNALS, stop_requests
from .schema import doorbell
from .schema.autovacuum import autovacuum_problem
from .schema.catalog import (
    address,
    owners_elsewhere,
    table_conflicts,
    table_owners,
    table_privileges,
    table_problem,
    table_problems,
)
from .schema.doorbell import Doorbell, doorbell_problem, find_doorbells
from .schema.ordering.state import order_problems
from .schema.own_tables import (
    LATER_COLUMNS,
    RELAYS,
    SENT,
    UNDELETED,
    FailureRecord,
    Pause,
    lacks_columns,
    parked_table_of,
    parked_table_problem,
    paused_table_of,
    paused_table_problem,
)
from .schema.quoting import PLAIN, quoted
from .schema.sent_partitions import partitions_sql
from .schema.signal_id import SIGNAL_ID, has_signal_id
from .sessions import own_session
from .sql import parked, paused
from .sql.backlog.columns import Measurement, Work
from .sql.backlog.query import find_work, find_work_and_measure, measure
from .sql.diagnosis import locate
from .sql.diagnosis.faulty_row import FaultyRow, find_faulty_row
from .sql.diagnosis.locate import FoundSignal, Holder, oldest_age_seconds
from .sql.diagnosis.trial import key_problems
from .sql.diagnosis.vacuum_horizon import (
    HolderKind,
    HorizonHolder,
    count_dead_rows,
    count_inserted_rows,
    horizon_holders,
)
from .sql.keys import FIRST_KEY, Key, SignalRef, has_integer_key
from .sql.ordered.blocked import BlockedKey, blocked_keys, held_back
from .sql.ordered.standing import Standing, standing
from .sql.parked import DueSignal, Failure, FailureGroup, LeaveOut, retries
from .sql.schedule.conditions import Part
from .sql.selection import Choice, Ring, count_unloadable_keys
from .sql.sent import history as sent
from .sql.sent.erase import Erasure, count_erasable, erase
from .sql.sent.history import SentFilter, SentSignal
from .sql.sent.keeping import history_problem, prepare_history
from .sql.sent.restore import Restored, restore
from .sql.transaction import BurstLimits, autocommit, set_limits, transaction
from .tcp import Address, first_listening

__all__ = [
    # Servers
    "Address",
    "first_listening",
    "is_away",
    "is_lost",
    # Single bursts
    "SignalSpec",
    "send_burst",
    "own_session",
    "delete_sent",
    "BurstResult",
    "FailedSignal",
    "Proved",
    "BurstLimits",
    "BurstSize",
    "Choice",
    "Part",
    "Ring",
    "FIRST_KEY",
    "Key",
    "SignalRef",
    "refs_of",
    "has_integer_key",
    "counted",
    "error_text",
    "escaping_advice",
    "one_line",
    "raise_if_stop",
    "sqlstate",
    # Failed signals
    "DueSignal",
    "Failure",
    "LeaveOut",
    "LATER_COLUMNS",
    "FailureRecord",
    "FailureGroup",
    "UNDELETED",
    "lacks_columns",
    "parked",
    "parked_table_of",
    "parked_table_problem",
    "retries",
    # What was sent
    "SENT",
    "Erasure",
    "count_erasable",
    "erase",
    "SentFilter",
    "SentSignal",
    "partitions_sql",
    "history_problem",
    "prepare_history",
    "Restored",
    "restore",
    "sent",
    # Paused models
    "Pause",
    "paused",
    "paused_table_of",
    "paused_table_problem",
    # What relays say of themselves
    "RELAYS",
    # Ending a program
    "STOP_SIGNALS",
    "stop_requests",
    # Where a single signal is
    "FaultyRow",
    "FoundSignal",
    "Holder",
    "find_faulty_row",
    "locate",
    # Waking relays
    "Doorbell",
    "doorbell",
    "doorbell_problem",
    "find_doorbells",
    # Dead rows
    "HolderKind",
    "HorizonHolder",
    "autovacuum_problem",
    "count_dead_rows",
    "count_inserted_rows",
    "horizon_holders",
    # Polling the tables
    "Measurement",
    "Work",
    "count_unloadable_keys",
    "find_work",
    "find_work_and_measure",
    "measure",
    "oldest_age_seconds",
    "autocommit",
    "PLAIN",
    "quoted",
    "set_limits",
    "transaction",
    "table_conflicts",
    "table_owners",
    "address",
    "owners_elsewhere",
    "table_privileges",
    "table_problem",
    "table_problems",
    "key_problems",
    # Order by key
    "POSITION",
    "order_problems",
    "BlockedKey",
    "Standing",
    "blocked_keys",
    "held_back",
    "standing",
    # Scheduled signals
    "SEND_AFTER",
    "Schedule",
    # The id of a signal
    "SIGNAL_ID",
    "has_signal_id",
]
