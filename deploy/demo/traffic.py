"""Customers of the shop behind HTTP, and the consumer of its messages: ``traffic URL ORDERS_PER_SECOND``.

Stopped by SIGTERM, it places no more orders, waits for the messages that are still on the way, and ends with 0 when
every order that was placed has arrived. What it sees is a line of JSON every ten seconds, and one at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from urllib.parse import urlsplit

from relay.drill.load import Consumer
from relay.drill.oracle import Oracle as Ledger

from .opening import QUEUE
from .shop import setting

#: What has not arrived so many seconds after the last order counts as lost.
PATIENCE_SECONDS = 60.0

REPORT_SECONDS = 10.0


class Customers:
    """Place orders one after the other; an order without an answer may or may not exist."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        self._ledger = ledger
        self.unanswered = 0

    def order(self) -> None:
        body = json.dumps({"item": "tea", "quantity": 1})
        try:
            self._connection.request("POST", "/orders", body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self.unanswered += 1
            return
        if answer.status == 201:
            self._ledger.note_committed([json.loads(text)["order_id"]], time.time())
        else:
            self.unanswered += 1


def main(url: str, per_second: float) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    ledger = Ledger()

    def receive(body: bytes, redelivered: bool) -> None:
        ledger.note_arrival(json.loads(body)["order_id"], time.time(), redelivered=redelivered)

    consumer = Consumer(setting(os.environ, "SHOP_RABBITMQ_URL"), QUEUE, receive)
    customers = Customers(url, ledger)
    reported = time.monotonic()
    while not stop.wait(1 / per_second):
        customers.order()
        if time.monotonic() - reported >= REPORT_SECONDS:
            reported = time.monotonic()
            report(ledger, customers.unanswered)
    wait_for_the_rest(ledger)
    consumer.stop()
    report(ledger, customers.unanswered)
    return 0 if ledger.committed and not ledger.missing() else 1


def wait_for_the_rest(ledger: Ledger) -> None:
    ticks = threading.Event()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while ledger.missing() and time.monotonic() < deadline:
        ticks.wait(0.1)


def report(ledger: Ledger, unanswered: int) -> None:
    tally = ledger.tally()
    figures = {
        "placed": tally.committed,
        "received": tally.received - len(tally.phantom),
        "on_the_way": len(tally.lost),
        "duplicates": tally.duplicates,
        "unanswered": unanswered,
        # Orders that were placed in a browser, or got no answer.
        "of_others": len(tally.phantom),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
