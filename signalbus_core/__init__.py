"""Signalbus: the transactional outbox for Flask, PostgreSQL and RabbitMQ.

Signals are rows that an application writes in the same transaction as its business data; the bus sends them and
deletes a row once the broker has proved that it has the message. :mod:`signalbus_core.rabbitmq` has the ready-made
sender for RabbitMQ.
"""

from __future__ import annotations

from . import doorbell, parked, paused, retries, whereabouts
from .ages import oldest_age_seconds
from .atomic import AtomicProceduresMixin
from .autovacuum import autovacuum_problem, autovacuum_sql
from .burst import send_burst
from .bus import SignalBus, get_models_to_flush
from .contract import SignalModel, SignalSpec
from .delete import delete_sent
from .doorbell import doorbell_sql
from .doorbell_state import Doorbell, doorbell_problem, find_doorbells
from .errors import (
    BurstError,
    DBSerializationError,
    PartialDeliveryError,
    PublishError,
    SetupError,
    SignalBusError,
    SignalModelError,
    TransactionStateError,
    UnreadableSignalError,
)
from .extension import SignalBusMixin
from .horizon import HolderKind, HorizonHolder, count_dead_rows, horizon_holders
from .inspection import table_conflicts, table_problem
from .keys import FIRST_KEY, Key, has_integer_key
from .looking import Measurement, Work, find_work, find_work_and_measure, measure
from .outcome import Outcome, OutcomeKind, Proved
from .own_session import own_session
from .parked import Failure, LeaveOut
from .parked_table import (
    LATER_COLUMNS,
    UNDELETED,
    SetAside,
    lacks_columns,
    parked_table_of,
    parked_table_problem,
    parked_table_sql,
)
from .paused_table import Pause, paused_table_of, paused_table_problem, paused_table_sql
from .privileges import table_privileges
from .question import question
from .quoting import quoted
from .result import BurstResult, FailedSignal
from .retries import DueSignal
from .signal_id import SIGNAL_ID, has_signal_id, signal_id_sql
from .sizing import BurstSize
from .statements import BurstLimits, Choice, count_unloadable_keys, transaction
from .trouble import error_text, outage_errors
from .whereabouts import FoundSignal, Holder

__all__ = [
    # Wiring it into an application
    "SignalBusMixin",
    "AtomicProceduresMixin",
    # Signal models and sending them
    "SignalBus",
    "SignalModel",
    "get_models_to_flush",
    # What became of a message
    "Outcome",
    "OutcomeKind",
    "outage_errors",
    # Errors
    "SignalBusError",
    "SetupError",
    "SignalModelError",
    "TransactionStateError",
    "DBSerializationError",
    "BurstError",
    "UnreadableSignalError",
    "PartialDeliveryError",
    "PublishError",
    # For relays: single bursts
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
    "FIRST_KEY",
    "Key",
    "has_integer_key",
    "error_text",
    # For relays: signals that are set aside
    "DueSignal",
    "Failure",
    "LeaveOut",
    "LATER_COLUMNS",
    "SetAside",
    "UNDELETED",
    "lacks_columns",
    "parked",
    "parked_table_of",
    "parked_table_problem",
    "parked_table_sql",
    "retries",
    # For relays: models that are paused
    "Pause",
    "paused",
    "paused_table_of",
    "paused_table_problem",
    "paused_table_sql",
    # Where a single signal is
    "FoundSignal",
    "Holder",
    "whereabouts",
    # Waking relays
    "Doorbell",
    "doorbell",
    "doorbell_problem",
    "doorbell_sql",
    "find_doorbells",
    # Dead rows
    "HolderKind",
    "HorizonHolder",
    "autovacuum_problem",
    "autovacuum_sql",
    "count_dead_rows",
    "horizon_holders",
    # For relays: looking at the tables
    "Measurement",
    "Work",
    "count_unloadable_keys",
    "find_work",
    "find_work_and_measure",
    "measure",
    "oldest_age_seconds",
    "question",
    "quoted",
    "transaction",
    "table_conflicts",
    "table_privileges",
    "table_problem",
    # The id of a signal
    "SIGNAL_ID",
    "has_signal_id",
    "signal_id_sql",
]
