"""Sends again what was sent: to its own destinations or to one queue, with the same ids and a header that marks it.

Rows are restored in a read-only transaction, and messages are made by the model of today. Nothing is written: what is
replayed stays in the history as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from pika.spec import BasicProperties
from sqlalchemy.orm import Session

from signalbus_core import Outcome, OutcomeKind, PublishError
from signalbus_core.lowlevel import (
    SentFilter,
    SentSignal,
    SignalSpec,
    error_text,
    own_session,
    raise_if_stop,
    restore,
    sent,
    set_limits,
)
from signalbus_core.rabbitmq import Message, Publisher, RabbitMQSignal, replayed_messages

from ..application.databases import LIMITS
from ..application.load import LoadedApp
from ..exit_codes import CommandError
from ..text import time_text
from .sent import SentSignals

logger = logging.getLogger("signalbus.relay")

#: Marks messages that were sent again: when.
HEADER = "signalbus-replay"

#: The headers that send a message to further queues; they are left out where it is to go to one.
FURTHER_ROUTES = ("CC", "BCC")

#: So many signals are restored and published together, at most.
MOST_TOGETHER = 500

#: Of so many signals, all but the rows is read together: finding where to go on costs a sort.
READ_TOGETHER = 20_000

#: They are published so many times a second, at least, so that the pace is even.
BATCHES_A_SECOND = 5

#: So many reasons for which single signals were not sent are kept.
MOST_REASONS = 20


@dataclass(frozen=True)
class Replay:
    """What became of a replay.

    :param sent: how many signals were sent.
    :param unsent: the first signals that were not, each with the reason: their rows or messages cannot be made, or the
      broker has no place for them.
    :param failed: how many those are in all.
    :param stopped_at: the first signal that the broker did not confirm, which ended the replay; None when it went on
      to its end.
    """

    sent: int = 0
    failed: int = 0
    unsent: tuple[tuple[str, str], ...] = ()
    stopped_at: SentSignal | None = None
    reason: str | None = None


@dataclass
class _Made:
    """The messages of some signals, in order; and the signals of which none can be made, each with the reason."""

    messages: list[tuple[SentSignal, list[Message]]] = field(default_factory=list)
    unmade: list[tuple[str, str]] = field(default_factory=list)


class Replays:
    """Sends signals of one model again.

    :param queue: to which all messages go; None: to their own destinations.
    :param rate: so many signals a second, at most.
    """

    def __init__(self, loaded: LoadedApp, signals: SentSignals, model: str, queue: str | None, rate: int) -> None:
        self._loaded = loaded
        self._signals = signals
        [self._spec] = signals.keeping(model)
        self._queue = queue
        self._rate = rate
        self._batch = max(1, min(MOST_TOGETHER, rate // BATCHES_A_SECOND))
        _refuse_own_sender(self._spec)

    def count(self, chosen: SentFilter) -> int:
        """How many signals are meant."""
        with self._signals.databases.rolled_back(self._spec.bind_key) as connection:
            return sent.count_sent(connection, self._spec, self._signals.meant(connection, self._spec, chosen))

    def run(self, chosen: SentFilter, wait: Callable[[float], object] | None = None) -> Replay:
        """Send them in the order of the bursts that sent them; stop where the broker does not confirm one.

        :param wait: waits for so many seconds.
        """
        wait = wait or threading.Event().wait
        result, started = Replay(), time.monotonic()
        for signals in self._batches(chosen):
            made = self._made(signals)
            done = self._published(made.messages)
            unsent = [*made.unmade, *done.unsent]
            result = Replay(
                result.sent + done.sent,
                result.failed + len(unsent),
                (*result.unsent, *unsent)[:MOST_REASONS],
                done.stopped_at,
                done.reason,
            )
            if result.stopped_at is not None:
                break
            ahead = (result.sent + result.failed) / self._rate - (time.monotonic() - started)
            if ahead > 0:
                wait(ahead)
        logger.warning(
            "%d signals of %s were sent again.",
            result.sent,
            self._spec.name,
            extra={"action": "signals_replayed", "signal": self._spec.name, "number": result.sent},
        )
        return result

    def _batches(self, chosen: SentFilter) -> Iterator[list[SentSignal]]:
        """The signals, in parts of which none has a key twice."""
        batch: dict[str, SentSignal] = {}
        for one in self._signals_of(chosen):
            if one.key in batch or len(batch) >= self._batch:
                yield list(batch.values())
                batch = {}
            batch[one.key] = one
        if batch:
            yield list(batch.values())

    def _signals_of(self, chosen: SentFilter) -> Iterator[SentSignal]:
        """The signals in their order, without their rows."""
        after: SentSignal | None = None
        databases, spec = self._signals.databases, self._spec
        while True:
            with databases.rolled_back(spec.bind_key) as connection:
                meant = self._signals.meant(connection, spec, chosen)
                found = sent.first_sent(connection, spec, meant, after, READ_TOGETHER)
            yield from found
            if len(found) < READ_TOGETHER:
                return
            after = found[-1]

    def _made(self, signals: Sequence[SentSignal]) -> _Made:
        """Their messages; where one fails, those of each by itself."""
        made = _Made()
        with own_session(self._loaded.bus.db, self._loaded.app) as session:
            try:
                restored = self._restored(session, signals)
            except BaseException as error:  # noqa: BLE001 - the types of the application's columns may raise anything
                raise_if_stop(error)
                session.rollback()
                if len(signals) == 1:
                    made.unmade.append((signals[0].key, f"its row cannot be restored ({type(error).__name__})"))
                    return made
                restored = None
            if restored is not None:
                for one in signals:
                    self._add(made, one, restored.get(one.place))
                session.rollback()
                return made
        half = len(signals) // 2
        first, second = self._made(signals[:half]), self._made(signals[half:])
        return _Made(first.messages + second.messages, first.unmade + second.unmade)

    def _restored(self, session: Session, signals: Sequence[SentSignal]) -> dict[str, Any]:
        connection = session.connection(
            bind_arguments={"mapper": self._spec.mapper}, execution_options={"postgresql_readonly": True}
        )
        set_limits(connection, LIMITS)
        return restore(session, self._spec, [one.place for one in signals])

    def _add(self, made: _Made, one: SentSignal, signal: Any) -> None:
        if signal is None:
            made.unmade.append((one.key, "it is not kept any more"))
            return
        try:
            ids = [message.message_id for message in one.messages]
            messages = [self._marked(message) for message in replayed_messages(signal, ids, one.sent_at)]
        except BaseException as error:  # noqa: BLE001 - the application's code raises what it likes
            raise_if_stop(error)
            made.unmade.append((one.key, error_text(error, [signal])))
        else:
            made.messages.append((one, messages))

    def _marked(self, message: Message) -> Message:
        properties = message.properties or BasicProperties()
        headers = {**(properties.headers or {}), HEADER: time_text(datetime.now(timezone.utc))}
        if self._queue is None:
            properties.headers = headers
            return Message(message.exchange, message.routing_key, message.body, properties, message.mandatory)
        properties.headers = {name: value for name, value in headers.items() if name not in FURTHER_ROUTES}
        return Message("", self._queue, message.body, properties)

    def _published(self, made: Sequence[tuple[SentSignal, list[Message]]]) -> Replay:
        """Publish messages. A signal that no broker would take as it is ends nothing; one without an answer does."""
        if not made:
            return Replay()
        publisher: Publisher = self._loaded.app.extensions["signalbus_rabbitmq"]
        try:
            publisher.bound_to(self._loaded.app).publish_messages([one for _, messages in made for one in messages])
        except PublishError as error:
            outcomes = iter(error.outcomes)
        else:
            return Replay(len(made))
        sent = 0
        unsent: list[tuple[str, str]] = []
        for one, messages in made:
            bad = [outcome for outcome in islice(outcomes, len(messages)) if outcome.kind is not OutcomeKind.ACKED]
            ending = next(filter(_ends_replay, bad), None)
            if ending is not None:
                return Replay(sent, len(unsent), tuple(unsent), one, str(ending))
            if bad:
                unsent.append((one.key, str(bad[0])))
            else:
                sent += 1
        return Replay(sent, len(unsent), tuple(unsent))


def _ends_replay(outcome: Outcome) -> bool:
    """Whether those that follow would meet the same: an outage, or a queue that is full."""
    return outcome.kind is OutcomeKind.UNKNOWN or outcome.cause == "nacked"


def _refuse_own_sender(spec: SignalSpec) -> None:
    model = spec.model
    is_ours = issubclass(model, RabbitMQSignal) and all(
        getattr(getattr(model, name), "__func__", getattr(model, name))
        is getattr(getattr(RabbitMQSignal, name), "__func__", getattr(RabbitMQSignal, name))
        for name in ("send_signalbus_message", "send_signalbus_messages")
    )
    if not is_ours:
        raise CommandError(
            f"{spec.name} has a send method of its own, so that only the application knows how to send it again. "
            f"`signalbus-relay sent show {spec.name} KEY --row` shows the row of a signal: write it anew."
        )
