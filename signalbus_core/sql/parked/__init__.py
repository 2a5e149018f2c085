"""The retry store: SQL that records failed signals, excludes them from bursts, retries and discards them."""

from __future__ import annotations

from .conditions import LeaveOut, count_blocking, count_columns, is_due, leaving_out, not_passed_over
from .histories import FailureHistory, failure_histories, keys_of, row_versions, undeleted_signals
from .operations import (
    FailureGroup,
    count_failed,
    discard,
    list_failed,
    list_groups,
    records_of_row,
    skip,
    try_again,
    waiting_failure,
)
from .records import Failure, forget, forget_gone, record_failures
from .retries import DueSignal

__all__ = [
    # In the queries of bursts and polls
    "LeaveOut",
    "count_columns",
    "is_due",
    "count_blocking",
    "leaving_out",
    "not_passed_over",
    # Records
    "Failure",
    "FailureHistory",
    "forget",
    "forget_gone",
    "keys_of",
    "failure_histories",
    "row_versions",
    "record_failures",
    "undeleted_signals",
    # Signals whose next try is due
    "DueSignal",
    # By a person
    "FailureGroup",
    "list_groups",
    "count_failed",
    "discard",
    "list_failed",
    "records_of_row",
    "skip",
    "try_again",
    "waiting_failure",
]
