"""Signalbus: the transactional outbox for Flask, PostgreSQL and RabbitMQ.

Signals are rows that an application writes in the same transaction as its business data; the bus sends them and
deletes a row once the broker has proved that it has the message. :mod:`signalbus_core.rabbitmq` has the ready-made
sender for RabbitMQ.
"""

from __future__ import annotations

from .atomic import AtomicProceduresMixin
from .burst import BurstResult, FailedSignal, send_burst
from .bus import SignalBus, get_models_to_flush
from .contract import SignalModel, SignalSpec
from .errors import (
    BurstError,
    DBSerializationError,
    PartialDeliveryError,
    PublishError,
    SetupError,
    SignalBusError,
    SignalModelError,
    TransactionStateError,
)
from .extension import SignalBusMixin
from .inspection import Measurement, find_pending, measure, reading, table_problem
from .outcome import Outcome, OutcomeKind
from .sizing import BurstSize, failed_whole, is_outage
from .statements import BurstLimits

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
    # Errors
    "SignalBusError",
    "SetupError",
    "SignalModelError",
    "TransactionStateError",
    "DBSerializationError",
    "BurstError",
    "PartialDeliveryError",
    "PublishError",
    # For relays: single bursts
    "SignalSpec",
    "send_burst",
    "BurstResult",
    "FailedSignal",
    "BurstLimits",
    "BurstSize",
    "failed_whole",
    "is_outage",
    # For relays: looking at the tables
    "Measurement",
    "find_pending",
    "measure",
    "reading",
    "table_problem",
]
