"""The operator's actions: list failed signals, have them tried again, discard them, pause models, resume them.

Invariant: each change is logged with the client's address. Payloads appear neither in the log nor in a response: a
discarded row is written to the record file before its delete is committed; without that file nothing is discarded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from werkzeug.exceptions import Forbidden, ServiceUnavailable

from signalbus_core.lowlevel import FailureRecord, SentFilter, SentSignal, parked

from ..application.databases import Databases
from ..operations.parked import ParkedSignals, RecordFile, no_failed_signal
from ..operations.pauses import Pauses
from ..operations.sent import SentSignals, as_json
from .database_bulkhead import ANSWER_WITHIN_SECONDS, DatabaseBulkhead

logger = logging.getLogger("signalbus.relay.http")

NO_RECORD = (
    "The relay has no file to record discarded signals in: give it one with --discard-record, or use the command "
    "signalbus-relay parked discard."
)


T = TypeVar("T")

#: The largest number of signals that one request discards: each is a transaction, and a line that is synced.
MOST_DISCARDED = 200


#: So many rows are read under one key. There are several where keys come again.
MOST_ROWS = 20


class Operations:
    """Carries out the operator's actions.

    :param record: the path of the file for discarded signals.
    """

    def __init__(self, databases: Databases, bulkhead: DatabaseBulkhead, record: str | None) -> None:
        self._parked = ParkedSignals(databases)
        self._pauses = Pauses(databases)
        self._sent = SentSignals(databases)
        self._bulkhead = bulkhead
        self._record = record

    @property
    def can_discard(self) -> bool:
        """Whether there is a record file for discarded signals."""
        return self._record is not None

    def failed_signals(
        self,
        model: str | None,
        limit: int,
        timeout_seconds: float = ANSWER_WITHIN_SECONDS,
        group: str | None = None,
    ) -> list[FailureRecord]:
        """Failed signals, parked ones first."""
        return self._bulkhead.run(lambda: self._parked.find(model, None, limit, group), timeout_seconds)

    def groups(
        self, model: str | None, limit: int, timeout_seconds: float = ANSWER_WITHIN_SECONDS
    ) -> list[parked.FailureGroup]:
        """Failed signals by state and reason, parked ones first."""
        return self._bulkhead.run(lambda: self._parked.groups(model, limit), timeout_seconds)

    def sent_signals(self, model: str | None, chosen: SentFilter, limit: int) -> list[SentSignal]:
        """What was sent, the last first."""
        return self._bulkhead.run(lambda: self._sent.find(model, chosen, limit))

    def sent_rows(self, model: str, key: str, address: str | None) -> list[dict[str, Any]]:
        """What was sent under a key, with the rows. These are payloads: that they were read is logged, not what."""

        def read() -> list[dict[str, Any]]:
            found = self._sent.find(model, SentFilter(key), MOST_ROWS)
            return [{**as_json(one), "row": self._sent.row(one)} for one in found]

        rows = self._bulkhead.run(read)
        logger.warning(
            "An operator read %d rows of %s from the history.",
            len(rows),
            model,
            extra={"action": "history_read", "signal": model, "key": key, "number": len(rows), "address": address},
        )
        return rows

    def retry(self, model: str | None, key: str | None, address: str | None, group: str | None = None) -> int:
        """Have signals tried at once: one, those of a group or a model, or all; return how many."""
        number = self._bulkhead.run(lambda: self._parked.try_again(model, key, group))
        logger.warning(
            "An operator had %d signals of %s tried again.",
            number,
            model or "all models",
            extra={"action": "signals_retried", "signal": model, "key": key, "number": number, "address": address},
        )
        return number

    def discard(self, model: str, key: str, address: str | None) -> None:
        """Delete a failed signal unsent."""
        if self._record is None:
            raise Forbidden(NO_RECORD)
        record = RecordFile(self._record)

        def find_and_discard() -> str:
            found = self._parked.find(model, key)
            if not self._parked.discard(found, record):
                raise no_failed_signal(model, key)
            return found[0].error_class

        reason = self._written(find_and_discard)
        logger.warning(
            "An operator discarded signal %s of %s; its row is in the record.",
            key,
            model,
            extra={"action": "signal_discarded", "signal": model, "key": key, "reason": reason, "address": address},
        )

    def discard_group(self, model: str, group: str, most: int, address: str | None) -> tuple[int, int]:
        """Delete failed signals of a group unsent; return how many, and how many are left.

        :param most: no more than so many, and than :data:`MOST_DISCARDED`.
        """
        if self._record is None:
            raise Forbidden(NO_RECORD)
        record = RecordFile(self._record)

        def find_and_discard() -> tuple[int, int]:
            found = self._parked.find(model, None, min(most, MOST_DISCARDED), group)
            number = 0
            try:
                for one in found:
                    number += self._parked.discard([one], record)
            finally:
                # In the thread that works on when the request is not waited for any longer.
                logger.warning(
                    "An operator discarded %d signals of %s; their rows are in the record.",
                    number,
                    model,
                    extra={
                        "action": "signals_discarded",
                        "signal": model,
                        "number": number,
                        "reason": found[0].error_class,
                        "address": address,
                    },
                )
            left = sum(one.number for one in self._parked.groups(model) if one.group == group)
            return number, left

        return self._written(find_and_discard)

    def _written(self, work: Callable[[], T]) -> T:
        """Run what writes to the record."""
        try:
            return self._bulkhead.run(work)
        except OSError as error:
            text = f"The record cannot be written ({error.strerror}), so nothing was discarded that it lacks."
            raise ServiceUnavailable(text) from None

    def pause(self, model: str, reason: str | None, address: str | None) -> bool:
        """Pause a model; return whether it was not paused before."""
        return self._change(model, lambda: self._pauses.pause(model, reason), "paused", address)

    def resume(self, model: str, address: str | None) -> bool:
        """Resume a model; return whether it was paused."""
        return self._change(model, lambda: self._pauses.resume(model), "resumed", address)

    def _change(self, model: str, change: Callable[[], bool], what: str, address: str | None) -> bool:
        is_changed = self._bulkhead.run(change)
        if is_changed:
            logger.warning(
                "An operator %s %s.",
                what,
                model,
                extra={"action": "operator_acted", "signal": model, "change": what, "address": address},
            )
        return is_changed
