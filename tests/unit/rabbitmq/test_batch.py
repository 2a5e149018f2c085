"""What a delivery makes of a connection that ends in the middle of it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any, ClassVar

from signalbus_core.rabbitmq import Message
from signalbus_core.rabbitmq.batch import Batch
from signalbus_core.rabbitmq.confirms import Confirms
from signalbus_core.rabbitmq.destination_breaker import DestinationBreaker


class LostConnection:
    """A connection that is lost while the broker is waited for."""

    lock = nullcontext()
    blocked_reason = None
    is_open = True
    frame_max = 131072
    suspect_exchanges: ClassVar[set[str]] = {"orders"}
    suspect_messages: ClassVar[set[int]] = set()
    verified_exchanges: ClassVar[set[str]] = set()

    class node:
        login = "guest"

    def channel_number(self, deadline: float) -> int:
        return 1

    def exchange_exists(self, name: str, deadline: float) -> bool:
        return True

    def send(self, chunks: Any, content_of: Any, deadline: float) -> Any:
        self.is_open = False
        return Confirms(1, len(chunks), content_of), "the connection was lost"

    def abort(self, reason: str) -> None: ...


def test_connection_lost_during_lone_message_is_no_answer() -> None:
    now = [0.0]
    silences = DestinationBreaker(lambda: now[0])
    silences.answered([("invoices", "c")])
    silences.record_silence([("orders", "a")], since=0.0)
    assert silences.silent_seconds(("orders", "a")) is not None
    now[0] = 10.0  # a trial is due
    delivery = Batch([[Message("orders", "a", b"x")]], time.monotonic() + 5, silences)
    delivery.run(LostConnection())  # type: ignore[arg-type]
    assert delivery.outcomes()[0][0].kind.value == "unknown"
    assert silences.silent_seconds(("orders", "a")) is not None, "nothing has answered"
