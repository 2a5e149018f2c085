"""The bus of one ``SQLAlchemy`` extension: finds its signal models and sends their pending signals.

The bus never uses the caller's session: bursts run in a separate application context with a separate ``db.session``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, current_app
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy import select
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, Session, registry

from .burst.flush import Conflicts, flush
from .errors import BurstError, SignalModelError, TransactionStateError
from .failures import error_text, raise_if_stop
from .model.contract import SignalSpec, is_signal_model, refuse_shared_table, resolve, unique_names
from .sessions import has_open_changes, in_atomic_block, own_session
from .sql.schedule.cancel import cancel
from .sql.schedule.peek import scheduled_count
from .sql.selection import count_pending
from .waiting.committed import committed
from .waiting.wait import timeout_of, wait_until_gone

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

logger = logging.getLogger("signalbus")


class SignalBus:
    """Finds the signal models of a ``SQLAlchemy`` extension and sends their pending signals.

    :param db: the Flask-SQLAlchemy extension with the models.
    :param models: the registry of the models, where it is not that of the extension.
    """

    def __init__(self, db: SQLAlchemy, models: registry | None = None) -> None:
        self.db = db
        self._models = models

    def __repr__(self) -> str:
        return f"<SignalBus of {self.db!r}>"

    def get_signal_models(self) -> list[type[Any]]:
        """Return all signal models, sorted by name.

        A model that shares its parent's table (single-table inheritance) is not listed: the parent sends its signals.
        """
        known: registry = cast(Any, self.db.Model).registry if self._models is None else self._models
        models = [
            mapper.class_ for mapper in known.mappers if is_signal_model(mapper.class_) and not _within_parent(mapper)
        ]
        return sorted(models, key=lambda model: (model.__name__, model.__module__, model.__qualname__))

    def specs(self, models: Iterable[type[Any]] | None = None) -> list[SignalSpec]:
        """Return what the bus knows about the given signal models, or about all of them.

        :raises SignalModelError: one of them is no signal model, or violates the contract.
        """
        known = self.get_signal_models()
        if isinstance(models, type) or (models is not None and not isinstance(models, Iterable)):
            raise SignalModelError(f"Signal models are given as a list, not as {models!r}.")
        chosen = known if models is None else list(dict.fromkeys(models))
        names = unique_names([*known, *(model for model in chosen if isinstance(model, type))])
        specs = [resolve(model, names.get(model)) for model in chosen]
        # By table first: comparing each model with each would take seconds where there are a thousand.
        by_table: dict[str, list[type[Any]]] = {}
        for model in known:
            by_table.setdefault(str(sqlalchemy_inspect(model).local_table), []).append(model)
        for spec in specs:
            refuse_shared_table(spec, by_table.get(str(spec.table), ()), names)
        return specs

    def flushmany(self, models: Iterable[type[Any]] | None = None) -> int:
        """Send all pending signals of the given models, or of all models; return how many were sent.

        - Only committed signals are sent, in bursts, each in its own transaction.
        - Signals that another process is sending at the moment are skipped.
        - Waiting signals are tried at once; parked signals are skipped.
        - Signals that were sent, but cannot be deleted, are not sent again: the next call only tries to delete them.
          Without the table ``signalbus_parked``, where they are recorded, or the right to write it, the next call sends
          them again.
        - Signals of a paused model are sent: only relays honour a pause.
        - After a failure it continues with the other models, and raises the first error at the end. Signals that were
          sent stay sent.

        :param models: the signal models to send, all when not given.
        :raises TransactionStateError: called in an atomic block, or with uncommitted changes in ``db.session``.
        :raises SignalModelError: a model violates the contract, or its table cannot serve as an outbox.
        :raises UnreadableSignalError: signals were not sent because they cannot be loaded, or cannot be deleted.
        :raises BurstError: signals were sent, and could not be deleted.
        :raises Exception: the first error that a send method raised.
        """
        specs = self.specs(models)
        self._refuse_outer_transactions(specs)
        self._refuse_open_changes()
        sent = 0
        first_error: BaseException | None = None
        conflicts = Conflicts(self._all_specs(), self.db.engines)
        for spec in specs:
            with own_session(self.db, self._app()) as session:
                try:
                    count, error = flush(session, self.db.engines[spec.bind_key], spec, conflicts)
                except BaseException as raised:  # noqa: BLE001 - raised at the end
                    raise_if_stop(raised)
                    count, error = 0, raised
            sent += count
            if error is not None:
                logger.warning(
                    "Sending %s failed (%s).",
                    spec.name,
                    type(error).__name__,
                    extra={"action": "flush_failed", "signal": spec.name},
                )
                first_error = first_error or error
        if first_error is not None and not isinstance(first_error, Exception):
            # Raised as it is, it would end the caller.
            raise BurstError(f"A send method raised {error_text(first_error)}.") from first_error
        if first_error is not None:
            raise first_error
        return sent

    def _all_specs(self) -> list[SignalSpec]:
        """What is known about all signal models, but for those that violate the contract."""
        specs: list[SignalSpec] = []
        for model, name in unique_names(self.get_signal_models()).items():
            try:
                specs.append(resolve(model, name))
            except SignalModelError as error:
                logger.debug("%s is left out: %s", name, error, extra={"action": "signal_model_unfit"})
        return specs

    def flush(self, models: Iterable[type[Any]] | None = None) -> int:
        """The older name of :meth:`flushmany`."""
        return self.flushmany(models)

    def cancel(self, signal: Any) -> bool:
        """Cancel a signal in the transaction of ``db.session``; return whether that came in time.

        - True: its row is deleted, and nothing will be sent once the transaction is committed. The instance is detached
          from the session. A roll back takes it back.
        - False: it was sent, or is being sent at the moment, or its row is locked by another transaction or gone.
          Nothing has changed.
        - It never waits for a burst.
        - At REPEATABLE READ, as in atomic blocks, it raises a serialization failure where the signal was sent since the
          transaction began; an atomic block is executed again then, and it returns False.

        To cancel many signals, ``DELETE`` them: that waits for those that are being sent.

        :param signal: an instance of a signal model, scheduled or not.
        :raises SignalModelError: it is no signal, or was never written.
        """
        [spec] = self.specs([type(signal)])
        return cancel(cast(Session, self.db.session()), spec, signal)

    def pending(self, models: Iterable[type[Any]] | None = None, *, limit: int | None = None) -> dict[type[Any], int]:
        """Count the pending signals by model: all signals in its table that are due, as relays count them.

        :param limit: the largest count for each model, so that a large table is not read to its end.
        """
        counts: dict[type[Any], int] = {}
        with own_session(self.db, self._app()) as session:
            for spec in self.specs(models):
                counts[spec.model] = count_pending(session, spec, limit)
        return counts

    def wait_sent(self, signal: Any, timeout_seconds: float) -> bool:
        """Wait until a committed signal has been sent: until its row is gone. Return whether it is.

        ::

            db.session.add(signal)
            db.session.commit()
            if not db.signalbus.wait_sent(signal, timeout_seconds=2):
                ...     # not yet; it will be sent

        - True: the row is gone. A relay, or ``flushmany()``, deletes it once the broker has confirmed all its messages.
          Whoever discards the signal, or deletes its row, does so without sending: that is not told apart.
        - False: the row was still there when the time was over, which says nothing about the signal. It may be sent the
          next moment, may have been sent, and will be sent, unless it is parked.
        - It takes a connection of the pool while it waits, beside one that the session may have. If the pool has none
          left, it waits for one for as long as the pool says (``pool_timeout``), which does not count, and then fails.
        - On PostgreSQL with psycopg2 or psycopg 3 the burst that sends the signal ends the wait. Behind a pooler, with
          other drivers and on other databases it looks up to ten times a second instead.

        :param signal: an instance of a signal model; it may be detached. It need not be loaded again.
        :raises TransactionStateError: the signal is not committed, or the session has uncommitted changes, or an atomic
          block or a burst is running: then it would wait for itself.
        :raises SignalModelError: it is no signal.
        :raises SetupError: the timeout is no number of seconds.
        :raises sqlalchemy.exc.SQLAlchemyError: the database failed.
        """
        seconds = timeout_of(timeout_seconds)
        spec = resolve(type(signal))
        key, own_id = committed(signal, spec, self.db.session())
        return wait_until_gone(self.db.engines[spec.bind_key], spec, key, own_id, seconds)

    def scheduled(self, models: Iterable[type[Any]] | None = None, *, limit: int | None = None) -> dict[type[Any], int]:
        """Count the signals that are not due yet, of the models that have scheduled ones.

        :param limit: the largest count for each model.
        """
        counts: dict[type[Any], int] = {}
        with own_session(self.db, self._app()) as session:
            for spec in self.specs(models):
                if spec.schedule is not None:
                    connection = session.connection(bind_arguments={"mapper": spec.mapper})
                    counts[spec.model] = (
                        connection.scalar(select(scheduled_count(spec, connection.dialect, limit))) or 0
                    )
        return counts

    def _app(self) -> Flask:
        return cast(Any, current_app)._get_current_object()  # type: ignore[no-any-return]

    def _refuse_outer_transactions(self, specs: Iterable[SignalSpec]) -> None:
        session = cast(Session, self.db.session())
        for spec in specs:
            bind = session.get_bind(spec.mapper)
            if isinstance(bind, Connection):
                raise TransactionStateError(
                    "flushmany() was called while db.session is bound to a connection, as in tests that roll back an "
                    f"outer transaction. A commit of the session commits nothing then, so there is no signal of "
                    f"{spec.name} to send. signalbus_core.testing.written_signals() shows what was written; to send, "
                    "let this test commit for real, and empty the tables after it."
                )

    def _refuse_open_changes(self) -> None:
        session = cast(Session, self.db.session())
        if in_atomic_block(session):
            raise TransactionStateError("flushmany() was called inside an atomic block. Call it after the block.")
        if has_open_changes(session):
            raise TransactionStateError(
                "flushmany() was called while db.session has uncommitted changes. Commit or roll back first: only "
                "committed signals are sent."
            )


def get_models_to_flush(signalbus: SignalBus, model_names: Iterable[str]) -> list[type[Any]]:
    """Return the signal models with the given names; all of them when no name is given.

    A name is the class name, or the name that :meth:`SignalBus.specs` gives. A name that no signal model has is
    ignored with a warning.
    """
    specs = signalbus.specs()
    wanted = list(dict.fromkeys(model_names))
    if not wanted:
        return [spec.model for spec in specs]
    for name in wanted:
        if not any(name in (spec.name, spec.model.__name__) for spec in specs):
            logger.warning(
                "There is no signal model named %r; known are: %s.",
                name,
                ", ".join(spec.name for spec in specs) or "none",
                extra={"action": "unknown_signal_model"},
            )
    return [spec.model for spec in specs if spec.name in wanted or spec.model.__name__ in wanted]


def _within_parent(mapper: Mapper[Any]) -> bool:
    while mapper.single and mapper.inherits is not None:
        mapper = mapper.inherits
        if is_signal_model(mapper.class_):
            return True
    return False
