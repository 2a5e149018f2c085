"""Sends again what was sent: to its own destinations or to one queue, with the same ids and a header that marks it.

Rows are restored in a read-only transaction, and messages are made by the model of today. Nothing is written: what is
replayed stays in the history as it was. Invariant: of an ordered model, a signal is sent only when the one before it in
its key was confirmed, as in a burst; one that cannot be sent holds back those behind it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from pika.spec import BasicProperties
from sqlalchemy.orm import Session

from signalbus_core import Outcome, OutcomeKind, PublishError
from signalbus_core.lowlevel import SentFilter, SentSignal, SignalSpec, counted, sent, set_limits
from signalbus_core.rabbitmq import Message, Publisher, replayed_messages, sends_itself

from ..application.databases import LIMITS
from ..application.load import LoadedApp
from ..application.read_only import read_only_session
from ..exit_codes import CommandError
from ..text import time_text
from .kept import built, in_portions, renamed_columns, signals_in_order
from .replay_order import Progress, Replay, waves
from .sent import SentSignals

logger = logging.getLogger("signalbus.relay")

#: Marks messages that were sent again: when.
HEADER = "signalbus-replay"

#: The headers that send a message to further queues; they are left out where it is to go to one.
FURTHER_ROUTES = ("CC", "BCC")

#: So many signals are restored and published together, at most.
MOST_TOGETHER = 500

#: They are published so many times a second, at least, so that the pace is even.
BATCHES_A_SECOND = 5


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

    def warnings(self) -> list[str]:
        """What a person should know before."""
        return renamed_columns(self._signals.databases, self._spec)

    def run(self, chosen: SentFilter, wait: Callable[[float], object] | None = None) -> Replay:
        """Send them in the order of the bursts that sent them; stop where the broker does not confirm one.

        :param wait: waits for so many seconds.
        """
        wait = wait or threading.Event().wait
        done, started = Progress(self._spec), time.monotonic()
        with self._signals.databases.rolled_back(self._spec.bind_key) as connection:
            meant = self._signals.meant(connection, self._spec, chosen)
        result = done.result()
        for signals in in_portions(signals_in_order(self._signals.databases, self._spec, meant), self._batch):
            result = self._send(signals, done)
            if result.stopped_at is not None:
                break
            ahead = (result.sent + result.failed) / self._rate - (time.monotonic() - started)
            if ahead > 0:
                wait(ahead)
        logger.warning(
            "%s sent again.",
            counted(result.sent, f"signal of {self._spec.name}", "was"),
            extra={"action": "signals_replayed", "signal": self._spec.name, "number": result.sent},
        )
        return result

    def _send(self, signals: Sequence[SentSignal], done: Progress) -> Replay:
        """Send some signals, wave by wave; return what has become of all so far."""
        made = {one.sent.place: one for one in built(self._session, self._spec, signals, self._messages)}
        left = {one.place: one for one in signals}
        for wave in waves(signals):
            going: list[tuple[SentSignal, list[Message]]] = []
            for one in wave:
                messages = made[one.place].made
                reason = done.held_back(one) or made[one.place].problem
                if messages is None or reason is not None:
                    done.fail(one, str(reason))
                    del left[one.place]
                else:
                    going.append((one, messages))
            for (one, _), outcome in zip(going, self._published([messages for _, messages in going]), strict=True):
                if outcome is None:
                    done.sent += 1
                elif self._ends_replay(outcome):
                    return done.result(next(iter(left.values())), str(outcome))
                else:
                    done.fail(one, str(outcome))
                del left[one.place]
        return done.result()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with read_only_session(self._loaded.app, self._loaded.bus.db) as session:
            set_limits(session.connection(bind_arguments={"mapper": self._spec.mapper}), LIMITS)
            yield session

    def _messages(self, one: SentSignal, signal: Any) -> list[Message]:
        ids = [message.message_id for message in one.messages]
        return [self._marked(message) for message in replayed_messages(signal, ids, one.sent_at)]

    def _marked(self, message: Message) -> Message:
        properties = message.properties or BasicProperties()
        headers = {**(properties.headers or {}), HEADER: time_text(datetime.now(timezone.utc))}
        if self._queue is None:
            properties.headers = headers
            return Message(message.exchange, message.routing_key, message.body, properties, message.mandatory)
        properties.headers = {name: value for name, value in headers.items() if name not in FURTHER_ROUTES}
        return Message("", self._queue, message.body, properties)

    def _published(self, signals: Sequence[list[Message]]) -> list[Outcome | None]:
        """Publish messages; return for each signal the outcome of the message that is to blame, None where none is."""
        if not signals:
            return []
        publisher: Publisher = self._loaded.app.extensions["signalbus_rabbitmq"]
        try:
            publisher.bound_to(self._loaded.app).publish_messages([one for messages in signals for one in messages])
        except PublishError as error:
            outcomes = iter(error.outcomes)
        else:
            return [None] * len(signals)
        found: list[Outcome | None] = []
        for messages in signals:
            bad = [one for one in islice(outcomes, len(messages)) if one.kind is not OutcomeKind.ACKED]
            found.append(next(filter(self._ends_replay, bad), bad[0] if bad else None))
        return found

    def _ends_replay(self, outcome: Outcome) -> bool:
        """Whether those that follow would meet the same: an outage, or the queue is full, or gone."""
        if outcome.cause == "returned":
            return self._queue is not None
        return outcome.kind is OutcomeKind.UNKNOWN or outcome.cause == "nacked"


def _refuse_own_sender(spec: SignalSpec) -> None:
    if sends_itself(spec.model):
        raise CommandError(
            f"{spec.name} has a send method of its own, so that only the application knows how to send it again. "
            f"`signalbus-relay sent show {spec.name} KEY --row` shows the row of a signal: write it anew."
        )
