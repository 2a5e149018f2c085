"""Signals that the poll finds and no burst can lock: locked by another session, or hidden from the application's own.

A burst that locks nothing does not fail, so this could go on unnoticed. After a while an incident is raised for the
model, with the likely cause.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import Holder, Key, SignalSpec, error_text, locate, transaction

from ...application.databases import APPLICATION_NAME
from ...runtime import Runtime
from ...telemetry.incidents import Incidents, stuck_thing
from ...telemetry.remedies import TO_END_IT
from ...telemetry.states import BACKLOG_COUNTED_TO
from ...text import duration_text
from ...worker.hanging import EmptyBursts
from ...worker.model_state import ModelState
from ...worker.retry_store import RetryStores
from ..joint_query import POLL_LIMITS

#: When bursts of a model have locked nothing for so long although signals are pending, an incident is raised. Longer:
#: it is raised later; shorter: a long burst of another relay raises it too.
UNREACHED_AFTER_SECONDS = 30.0

#: The interval at which the cause is diagnosed while this lasts.
DIAGNOSE_EVERY_SECONDS = 10.0

_HIDDEN = (
    "it is not locked, so the application's session hides it: look for a do_orm_execute listener, or for "
    "with_loader_criteria, that filters the model"
)
_POLICY = "row-level security hides it from SELECT ... FOR UPDATE: look at the table's policies for UPDATE"
_UNKNOWN_LOCK = "it is locked by a session that this login cannot see, or by a prepared transaction (pg_prepared_xacts)"


class Unreached:
    """Raises and resolves the incidents of models of a database whose pending signals no burst can lock.

    :param states: the models of the database by name.
    :param incidents: the incidents that last, for the text of :meth:`describe`.
    """

    def __init__(
        self,
        states: Mapping[str, ModelState],
        retry_stores: RetryStores,
        bursts: EmptyBursts,
        incidents: Incidents,
        runtime: Runtime,
    ) -> None:
        self._states = states
        self._retry_stores = retry_stores
        self._bursts = bursts
        self._incidents = incidents
        self._events = runtime.events
        self._clock = runtime.clock
        self._diagnosed: dict[str, float] = {}
        #: The first pending key at the last diagnosis: where it has changed, signals flow.
        self._heads: dict[str, Key | None] = {}

    def polled(self, pending: Collection[str]) -> None:
        """Learn from a poll of all models.

        :param pending: the models for which it found signals that a burst would take.
        """
        self._bursts.forget(self._states.keys() - set(pending))
        # Raised after two diagnoses with the same first signal: when other relays send all signals, it changes.
        lasting = self._bursts.lasting(UNREACHED_AFTER_SECONDS - DIAGNOSE_EVERY_SECONDS)
        lasting = [name for name in lasting if name in self._states]
        for name in self._diagnosed.keys() - set(lasting):
            del self._diagnosed[name], self._heads[name]
            self._events.model_stuck(name, "unreached", None)
        for name in lasting:
            if self._clock() - self._diagnosed.get(name, float("-inf")) >= DIAGNOSE_EVERY_SECONDS:
                self._diagnosed[name] = self._clock()
                before = self._heads.get(name)
                self._heads[name], reason = self._diagnose(name)
                if before is not None and before == self._heads[name]:
                    self._events.model_stuck(name, "unreached", reason)

    def describe(self, pending: Collection[str]) -> str:
        """What is pending of these models, and why it is not sent, in one line for people."""
        return "; ".join(f"{name}: {'; '.join(self._reasons(name))}" for name in pending)

    def _reasons(self, name: str) -> list[str]:
        lasting = self._incidents.lasting().values()
        own = stuck_thing(name, "unreached")
        known = [one.reason for one in lasting if one.signal == name and one.thing != own]
        is_empty = name in self._bursts.lasting(0.0)
        return [*known, self._diagnose(name)[1]] if is_empty or not known else known

    def _diagnose(self, name: str) -> tuple[Key | None, str]:
        """The first pending signal of a model; how many are pending that no burst can lock, and the likely cause."""
        spec = self._states[name].spec
        try:
            with transaction(self._retry_stores.engine(name), POLL_LIMITS) as connection:
                return self._first_pending(connection, spec)
        except SQLAlchemyError as error:
            return None, f"signals are pending that no burst gets; the cause cannot be told ({error_text(error)})"

    def _first_pending(self, connection: Connection, spec: SignalSpec) -> tuple[Key | None, str]:
        choice = self._retry_stores[spec.name].choice(self._states[spec.name].avoided())
        keys = locate.first_keys(connection, spec, choice, BACKLOG_COUNTED_TO)
        keys = keys or self._retry_stores[spec.name].due_keys(BACKLOG_COUNTED_TO)
        if not keys:
            return None, "no signal is pending any more"
        count = f"{len(keys):,}{' or more' if len(keys) >= BACKLOG_COUNTED_TO else ''}"
        signals = "1 signal is" if len(keys) == 1 else f"{count} signals are"
        shown = locate.key_texts(connection, spec, keys[:1])[keys[0]]
        cause = _cause(connection, spec, keys[0])
        return keys[0], f"{signals} pending that no burst gets; of the first ({shown}): {cause}"


def _cause(connection: Connection, spec: SignalSpec, key: Key) -> str:
    if connection.dialect.name != "postgresql":
        return _HIDDEN
    found = locate.find_signal(connection, spec, key)
    if found is None:
        return "it is gone by now"
    if not found.is_locked:
        return _HIDDEN
    holder = locate.row_holder(connection, found.last_locker)
    if holder is not None:
        is_relay = holder.application_name.startswith(APPLICATION_NAME)
        remedy = "; a relay is sending it" if is_relay else f"{TO_END_IT}SELECT pg_terminate_backend({holder.pid})"
        return f"it is locked by {session_text(holder)}{remedy}"
    return _POLICY if locate.has_row_security(connection, spec) else _UNKNOWN_LOCK


def locked_table(holder: Holder | None) -> str | None:
    """Who has locked a table so that it cannot be read, and what ends it; None when nobody is known."""
    if holder is None:
        return None
    return f"its table is locked by {session_text(holder)}{TO_END_IT}SELECT pg_terminate_backend({holder.pid})"


def session_text(holder: Holder) -> str:
    """A session that holds a lock, in words for people."""
    name = f" ({holder.application_name})" if holder.application_name else ""
    state = f", {holder.state}" if holder.state else ""
    since = "" if holder.seconds is None else f", in a transaction for {duration_text(holder.seconds)}"
    return f"the session with pid {holder.pid}{name}{state}{since}"
