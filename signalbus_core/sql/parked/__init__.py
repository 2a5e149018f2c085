"""The retry store: SQL that records failed signals, excludes them from bursts, retries and discards them."""

from __future__ import annotations

from .conditions import LeaveOut, count_columns, is_due, leaving_out
from .operations import count_set_aside, discard, list_set_aside, notes_of_row, try_again
from .records import (
    Failure,
    Noted,
    forget,
    forget_gone,
    keys_of,
    noted_so_far,
    row_versions,
    set_aside,
    undeleted_signals,
)
from .retries import DueSignal

__all__ = [
    # In the queries of bursts and polls
    "LeaveOut",
    "count_columns",
    "is_due",
    "leaving_out",
    # Records
    "Failure",
    "Noted",
    "forget",
    "forget_gone",
    "keys_of",
    "noted_so_far",
    "row_versions",
    "set_aside",
    "undeleted_signals",
    # Signals whose next try is due
    "DueSignal",
    # By a person
    "count_set_aside",
    "discard",
    "list_set_aside",
    "notes_of_row",
    "try_again",
]
