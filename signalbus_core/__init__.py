"""Signalbus: the transactional outbox for Flask, PostgreSQL and RabbitMQ.

Signals are rows that an application writes in the same transaction as its business data; the bus sends them and
deletes a row only after the broker has confirmed its message. :mod:`signalbus_core.rabbitmq` has the ready-made sender
for RabbitMQ.
"""

from __future__ import annotations

from .bus import SignalBus, get_models_to_flush
from .errors import (
    BurstError,
    DBSerializationError,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SetupError,
    SignalBusError,
    SignalModelError,
    TransactionStateError,
    UnreadableSignalError,
)
from .extension import SignalBusMixin
from .failures import outage_errors
from .model.contract import SignalModel
from .schema.autovacuum import autovacuum_sql
from .schema.create_all import follow_models
from .schema.doorbell import doorbell_sql
from .schema.ordering.position import OrderedSignal, order_sql
from .schema.own_tables import parked_table_sql, paused_table_sql, relays_table_sql
from .schema.send_after import ScheduledSignal, scheduled_sql
from .schema.signal_id import signal_id_sql
from .transactions.atomic import AtomicProceduresMixin

__all__ = [
    # Wiring it into an application
    "SignalBusMixin",
    "AtomicProceduresMixin",
    # Signal models and sending them
    "SignalBus",
    "SignalModel",
    "get_models_to_flush",
    # Signals that are sent later
    "ScheduledSignal",
    "scheduled_sql",
    # Outcomes of messages
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
    # For relays: failed signals
    "parked_table_sql",
    # For relays: models that are paused
    "paused_table_sql",
    # For relays: what they say of themselves, for one page about all
    "relays_table_sql",
    # Waking relays
    "doorbell_sql",
    # Dead rows
    "autovacuum_sql",
    # The id of a signal
    "signal_id_sql",
    # Order by key
    "OrderedSignal",
    "order_sql",
]

follow_models()
