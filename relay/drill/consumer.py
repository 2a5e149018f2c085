"""A thread that receives the messages of a queue, and passes them on. It connects again when it lost the broker."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pika.adapters.blocking_connection import BlockingChannel
from pika.spec import Basic, BasicProperties

from .broker import BROKER_ERRORS, open_connection

PREFETCH_COUNT = 500

RECONNECT_SECONDS = 0.5


class Consumer:
    """Begins when it is made.

    :param receive: called with each body, and with whether the broker says that it delivers it again.
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
            # A consumer whose queue was deleted is cancelled by the broker, and waits in vain.
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
