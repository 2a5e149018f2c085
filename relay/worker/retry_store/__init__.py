"""The stores of failed signals: the table ``signalbus_parked``, or memory where there is no such table."""

from .memory import MemoryRetryStore
from .notes import Due, Note, Notes
from .proved import ProvedSignals
from .store import TAKEN_SECONDS, RetryStore
from .stores import RetryStores
from .table import TableRetryStore

__all__ = [
    "TAKEN_SECONDS",
    "Due",
    "MemoryRetryStore",
    "Note",
    "Notes",
    "ProvedSignals",
    "RetryStore",
    "RetryStores",
    "TableRetryStore",
]
