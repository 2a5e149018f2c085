"""Every error that Signalbus raises. Those that say that the library is used wrongly are ``RuntimeError`` as well.

::

    SignalBusError
    ├── SetupError                  the extension is wired wrongly, or used before init_app
    ├── SignalModelError            a model does not keep the signal-model contract
    ├── TransactionStateError       called in a transaction state that forbids it
    ├── DBSerializationError        the transaction is rolled back due to a race condition
    ├── BurstError                  a burst could not be finished as the rules demand
    ├── UnreadableSignalError       signals cannot be loaded, and were not sent
    ├── PartialDeliveryError        some signals of a burst are proved to have arrived, others are not
    └── PublishError                not every message was confirmed
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .outcome import Outcome, OutcomeKind, Proved


class SignalBusError(Exception):
    """The root of all errors of Signalbus."""


class SetupError(SignalBusError, RuntimeError):
    """The extension is wired wrongly, configured wrongly, or used before ``init_app``."""


class SignalModelError(SignalBusError, RuntimeError):
    """A model does not keep the signal-model contract; the message says what and how to mend it."""


class TransactionStateError(SignalBusError, RuntimeError):
    """The call is not allowed in the present state of the session's transaction; nothing was touched."""


class DBSerializationError(SignalBusError):
    """The transaction is rolled back due to a race condition."""


class BurstError(SignalBusError):
    """A burst could not be finished as the rules demand; its transaction was rolled back.

    :param proved: those of its signals that had been sent by then, while the database was away when they were to be
      deleted. Whoever keeps them may delete them later by :func:`signalbus_core.delete_sent`; else they are sent again.
    """

    def __init__(self, message: str, *, proved: Iterable[Proved] = ()) -> None:
        self.proved = tuple(proved)
        super().__init__(message)

    @property
    def sent(self) -> int:
        """How many of its signals had been sent."""
        return len(self.proved)


class UnreadableSignalError(SignalBusError):
    """Signals were not sent because their columns hold what the model cannot take. They are still in their table.

    :param keys: their primary keys, as tuples. The message shows no value of theirs.
    """

    def __init__(self, message: str, keys: Iterable[tuple[Any, ...]] = ()) -> None:
        self.keys = list(keys)
        super().__init__(message)


class PartialDeliveryError(SignalBusError):
    """Some signals of a burst are proved to have arrived, others are not.

    Any sender, for any broker, may raise it: the burst deletes exactly the ``delivered`` signals. Of a
    signal that is in neither list nothing is known: it stays.

    :param delivered: the signals of which *every* message is confirmed.
    :param failed: pairs of a signal and the outcome that kept it from being delivered.
    """

    def __init__(self, delivered: Iterable[Any], failed: Iterable[tuple[Any, Outcome]] = ()) -> None:
        self.delivered: list[Any] = list(delivered)
        self.failed: list[tuple[Any, Outcome]] = list(failed)
        super().__init__(self.delivered, self.failed)

    def __repr__(self) -> str:
        return f"<PartialDeliveryError: {self}>"

    def __str__(self) -> str:
        first = f"; first: {self.failed[0][1]}" if self.failed else ""
        return f"{len(self.delivered)} signals delivered, {len(self.failed)} not{first}"


class EndedEarlyError(PartialDeliveryError):
    """Sending took long, and ended before all signals had their turn; none has failed."""


class PublishError(SignalBusError):
    """Not every message was confirmed.

    :param outcomes: one :class:`Outcome` for each message, in the order in which they were given.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.outcomes: tuple[Outcome, ...] = tuple(outcomes)
        super().__init__(self.outcomes)

    def __repr__(self) -> str:
        return f"<PublishError: {self}>"

    def __str__(self) -> str:
        bad = [outcome for outcome in self.outcomes if outcome.kind is not OutcomeKind.ACKED]
        first = f"; first: {bad[0]}" if bad else ""
        return f"{len(bad)} of {len(self.outcomes)} messages were not confirmed{first}"
