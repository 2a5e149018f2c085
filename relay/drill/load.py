"""The load of a drill: threads that write signals in transactions of many sizes and roll some back; the consumer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from .kinds.traffic import Traffic
from .oracle import Oracle
from .resources import BROKER_ERRORS, open_connection

#: The largest number of signals in one transaction.
LARGEST_TRANSACTION = 40

#: The share of transactions that is rolled back after the signals were written.
ROLLED_BACK_PART = 0.2

#: The last signal is written after this share of the time, so that faults also occur after it.
WRITING_PART = 0.95

#: The longest time that a transaction stays open after its signals were written.
LINGER_SECONDS = 0.02

RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Quota:
    """The quota of one writer.

    :param signals: how many it commits.
    :param seconds: evenly over so many; after that it writes no more.
    """

    signals: int
    seconds: float


class SignalWriter:
    """Writes numbers from one source for all writers, and records in the oracle whether each was committed.

    :param kinds: of signals; each transaction has one of them.
    """

    def __init__(
        self,
        engine: Engine,
        kinds: Sequence[Traffic],
        numbers: Iterator[int],
        quota: Quota,
        ledger: Oracle,
        seed: str,
    ) -> None:
        self._engine = engine
        self._kinds = kinds
        self._numbers = numbers
        self._quota = quota
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"writer-{seed}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        written = 0
        while written < self._quota.signals and time.monotonic() - started < self._quota.seconds:
            if self._stop.is_set():
                return
            try:
                with self._engine.connect() as connection:
                    written = self._write(connection, written, started)
            except SQLAlchemyError:
                # The server went away between two transactions: no commit is in doubt.
                self._stop.wait(RETRY_SECONDS)

    def _write(self, connection: Connection, written: int, started: float) -> int:
        """Write until the quota is reached or the connection fails; return how many are committed by now."""
        while written < self._quota.signals and not self._stop.is_set():
            elapsed = time.monotonic() - started
            if elapsed >= self._quota.seconds:
                break
            ahead = written / self._quota.signals * self._quota.seconds * WRITING_PART - elapsed
            if ahead > 0 and self._stop.wait(min(ahead, self._quota.seconds - elapsed)):
                break
            size = min(self._chance.randint(1, LARGEST_TRANSACTION), self._quota.signals - written)
            numbers = [next(self._numbers) for _ in range(size)]
            outcome = self._transact(connection, numbers, keep=self._chance.random() >= ROLLED_BACK_PART)
            if outcome is None:
                break
            written += outcome
        return written

    def _transact(self, connection: Connection, numbers: list[int], *, keep: bool) -> int | None:
        """Write some signals; return how many are committed, or None when the connection failed."""
        try:
            written = self._chance.choice(self._kinds)(connection, numbers, self._chance)
            self._stop.wait(self._chance.uniform(0, LINGER_SECONDS))
            if not keep:
                connection.rollback()
        except SQLAlchemyError:
            # No COMMIT was sent, so it is rolled back.
            self._ledger.note_rolled_back(len(numbers))
            return None
        if not keep:
            self._ledger.note_rolled_back(len(numbers))
            return 0
        self._ledger.note_written(written.places, written.due)
        try:
            connection.commit()
        except SQLAlchemyError:
            self._ledger.note_in_doubt(numbers)
            return None
        self._ledger.note_committed(numbers, time.time())
        return len(numbers)


PREFETCH_COUNT = 500

RECONNECT_SECONDS = 0.5


class Consumer:
    """Consumes the drill's queue from its creation on.

    :param receive: called with each body, and with the redelivered flag.
    """

    def __init__(self, amqp_url: str, queue: str, receive: Callable[[bytes, bool], None]) -> None:
        self._amqp_url = amqp_url
        self._queue = queue
        self._note = receive
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._consume()
            except BROKER_ERRORS:
                self._stop.wait(RECONNECT_SECONDS)

    def _consume(self) -> None:
        connection = open_connection(self._amqp_url)
        try:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=PREFETCH_COUNT)
            channel.basic_consume(self._queue, self._receive)
            # The broker cancels a consumer whose queue was deleted; then it would wait for ever.
            while not self._stop.is_set() and channel.consumer_tags:
                connection.process_data_events(time_limit=0.2)
        finally:
            if connection.is_open:
                connection.close()

    def _receive(
        self, channel: BlockingChannel, delivery: Basic.Deliver, _properties: BasicProperties, body: bytes
    ) -> None:
        self._note(body, bool(delivery.redelivered))
        channel.basic_ack(delivery.delivery_tag)
