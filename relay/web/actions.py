"""The operator's actions: list failed signals, have them tried again, discard them, pause models, resume them.

Invariant: each change is logged with the client's address. Payloads appear neither in the log nor in a response: a
discarded row is written to the record file before its delete is committed; without that file nothing is discarded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from werkzeug.exceptions import Forbidden, ServiceUnavailable

from signalbus_core.lowlevel import FailureRecord

from ..application.databases import Databases
from ..operations.parked import ParkedSignals, RecordFile, no_failed_signal
from ..operations.pauses import Pauses
from .database_bulkhead import ANSWER_WITHIN_SECONDS, DatabaseBulkhead

logger = logging.getLogger("signalbus.relay.http")

NO_RECORD = (
    "The relay has no file to record discarded signals in: give it one with --discard-record, or use the command "
    "signalbus-relay parked discard."
)


class Operations:
    """Carries out the operator's actions.

    :param record: the path of the file for discarded signals.
    """

    def __init__(self, databases: Databases, bulkhead: DatabaseBulkhead, record: str | None) -> None:
        self._parked = ParkedSignals(databases)
        self._pauses = Pauses(databases)
        self._bulkhead = bulkhead
        self._record = record

    @property
    def can_discard(self) -> bool:
        """Whether there is a record file for discarded signals."""
        return self._record is not None

    def failed_signals(
        self, model: str | None, key: str | None, limit: int, timeout_seconds: float = ANSWER_WITHIN_SECONDS
    ) -> list[FailureRecord]:
        """Failed signals, parked ones first."""
        return self._bulkhead.run(lambda: self._parked.find(model, key, limit), timeout_seconds)

    def retry(self, model: str | None, key: str | None, address: str | None) -> int:
        """Have signals tried at once: one, those of a model, or all; return how many."""
        number = self._bulkhead.run(lambda: self._parked.try_again(model, key))
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

        try:
            reason = self._bulkhead.run(find_and_discard)
        except OSError as error:
            text = f"The record cannot be written ({error.strerror}), so nothing was discarded."
            raise ServiceUnavailable(text) from None
        logger.warning(
            "An operator discarded signal %s of %s; its row is in the record.",
            key,
            model,
            extra={"action": "signal_discarded", "signal": model, "key": key, "reason": reason, "address": address},
        )

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
