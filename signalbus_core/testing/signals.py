"""The signals that a block of code wrote, and sending them at once. As in a relay, only committed signals count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast, overload

from flask import Flask, current_app, has_app_context
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from ..bus import SignalBus
from ..errors import SetupError, SignalBusError, TransactionStateError
from ..model.contract import SignalSpec
from ..sessions import has_open_changes, in_atomic_block, own_session

#: After so many rounds it is assumed that sending writes new signals endlessly.
MOST_ROUNDS = 100

S = TypeVar("S")


class SignalsLeftError(SignalBusError):
    """Signals were not sent, although no send method failed: they are parked, or locked by a transaction.

    :param left: their number by the name of the model.
    """

    def __init__(self, left: dict[str, int]) -> None:
        self.left = left
        shown = ", ".join(f"{count} of {name}" for name, count in left.items())
        super().__init__(f"Signals are left: {shown}. They are parked, or a transaction that is still open holds them.")


class WrittenSignals(Sequence[Any]):
    """The signals that a block of code wrote and committed, sorted by model and key; empty until it has ended."""

    def __init__(self) -> None:
        self._signals: list[Any] = []

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...

    def __getitem__(self, index: int | slice) -> Any:
        return self._signals[index]

    def __len__(self) -> int:
        return len(self._signals)

    def __repr__(self) -> str:
        return repr(self._signals)

    def of(self, model: type[S]) -> list[S]:
        """The signals of one model."""
        return [signal for signal in self._signals if isinstance(signal, model)]


def pending_signals(app: Flask, *models: type[Any]) -> list[Any]:
    """The committed signals that are not sent yet, sorted by model and key; of all models when none is given.

    They are detached from any session: their columns can be read, and changes are not written.
    """
    bus = bus_of(app)
    found: list[Any] = []
    with own_session(bus.db, app) as session:
        for spec in bus.specs(models or None):
            signals = session.scalars(select(spec.model).options(undefer("*")).order_by(*spec.primary_key))
            # A relationship that is loaded by a join repeats a signal for each row.
            found += signals.unique()
        session.expunge_all()
    return found


@contextmanager
def written_signals(app: Flask, *models: type[Any]) -> Iterator[WrittenSignals]:
    """The signals that the block writes and commits: of the given models, or of all.

    ::

        with written_signals(app) as written:
            place_order("tea")
        assert [signal.order_id for signal in written.of(OrderPlaced)] == [1]

    It compares the tables before and after, so it does not matter how signals were written, and a signal that the block
    updated is included. A signal that was sent before the block ended is not.

    :raises TransactionStateError: the block left uncommitted changes in ``db.session``.
    """
    before = {_identity(signal): _content(signal) for signal in pending_signals(app, *models)}
    written = WrittenSignals()
    yield written
    _refuse_open_changes(app)
    after = pending_signals(app, *models)
    # SQLite may reuse the key of a deleted row.
    written._signals[:] = [signal for signal in after if before.get(_identity(signal)) != _content(signal)]


def send_until_empty(app: Flask, *models: type[Any]) -> int:
    """Send all pending signals in this thread, in bursts like a relay, until none is left.

    Each signal is tried once, without a relay's backoff and parking.

    :returns: how many signals were sent.
    :raises SignalsLeftError: signals are left although nothing failed.
    :raises Exception: the first error that a send method raised. Signals that were sent stay sent.
    """
    bus = bus_of(app)
    sent = 0
    with nullcontext() if _is_current(app) else app.app_context():
        for _ in range(MOST_ROUNDS):
            # Sending may write further signals.
            in_this_round = bus.flushmany(models or None)
            sent += in_this_round
            left = _left(bus, bus.specs(models or None))
            if not left:
                return sent
            if not in_this_round:
                break
    raise SignalsLeftError(left)


def _refuse_open_changes(app: Flask) -> None:
    if not _is_current(app):
        return
    session = cast(Session, bus_of(app).db.session())
    if in_atomic_block(session) or has_open_changes(session):
        raise TransactionStateError(
            "The block left uncommitted changes in db.session. Commit them in the block: a signal that is not "
            "committed is never sent."
        )


def _is_current(app: Flask) -> bool:
    return has_app_context() and current_app._get_current_object() is app  # type: ignore[attr-defined]


def _left(bus: SignalBus, specs: Sequence[SignalSpec]) -> dict[str, int]:
    counts = bus.pending([spec.model for spec in specs])
    return {spec.name: counts[spec.model] for spec in specs if counts[spec.model]}


def _identity(signal: Any) -> object:
    return sqlalchemy_inspect(signal).identity_key


def _content(signal: Any) -> dict[str, Any]:
    state: Any = sqlalchemy_inspect(signal)
    return {one.key: state.dict[one.key] for one in state.mapper.column_attrs if one.key in state.dict}


def bus_of(app: Flask) -> SignalBus:
    """The bus of an application.

    :raises SetupError: it has none.
    """
    bus = app.extensions.get("signalbus")
    if not isinstance(bus, SignalBus):
        raise SetupError(f"The application {app.name!r} has no SignalBus. Did its db's init_app run?")
    return bus
