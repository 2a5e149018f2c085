"""The site of a relay in front of a real database, without the relay: what operators do there is tried on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from relay.application.load import LoadedApp
from relay.config.resolve import resolve
from relay.replicas.replica import OwnReport
from relay.replicas.thread import Place, Replicas
from relay.telemetry.status import Status
from relay.web.site import build_site
from signalbus_core import Outcome, OutcomeKind
from signalbus_core.lowlevel import RELAYS
from tests.integration.worker.test_parked_signals import Outbox, failed
from tests.support.recorder import Recorder
from tests.support.web import Reply, call

PARKED = Outcome(OutcomeKind.INVALID, "ValueError: <b>bad</b>", cause="invalid")

#: The broker of the relay, as it is shown.
BROKER = "amqp://rabbit.shop.internal:5672/shop"

TOKEN = "a-token-of-operators-0123456789"


class Operated:
    """A site, and the outbox that it is about.

    :param given: further options of the relay.
    """

    def __init__(self, outbox: Outbox, directory: Path, status: Status | None = None, **given: Any) -> None:
        self.outbox = outbox
        self.record = directory / "discarded.jsonl"
        options = {"app": "unused", "operator_token": TOKEN, "discard_record": str(self.record), **given}
        config = resolve({name: value for name, value in options.items() if value is not None}, {})
        recorder = Recorder(["Order"], logger="test", stall_after_seconds=3600, flow_within_seconds=3600)
        self.status, self.health, self.incidents = status or recorder.status, recorder.health, recorder.incidents
        self.health.relay_changed("running")
        self.health.database_polled("Database", None)
        self.health.broker_changed("worker-1", "up", None, BROKER)
        self.place = Place(outbox.engine, RELAYS.of(outbox.spec), "shop")
        self.replicas = Replicas(OwnReport(self.status, self.health, self.incidents), self.place)
        self.site: Callable[..., Iterable[bytes]] = build_site(
            LoadedApp(outbox.app, outbox.db.signalbus),
            config,
            {None: outbox.engine},
            self.status,
            self.health,
            recorder.metrics,
            self.incidents,
            self.replicas,
        )

    def park(self, *keys: int) -> None:
        """Write signals, and park them."""
        self.outbox.write(*keys)
        self.outbox.retry_store(park_after=1).put([failed(key, PARKED) for key in keys])
        self.status.failed_counted("Order", 0, len(keys))

    def ask(self, path: str, method: str = "GET", **arguments: Any) -> Reply:
        return call(self.site, path, method, **arguments)

    def act(self, path: str, body: bytes, token: str = TOKEN, **arguments: Any) -> Reply:
        """Do something as a program does."""
        arguments = {"content_type": "application/json", "authorization": f"Bearer {token}", **arguments}
        return self.ask(path, "POST", body=body, **arguments)

    def submit(self, path: str, body: str, **arguments: Any) -> Reply:
        """Do something as a form of the page does."""
        arguments = {
            "content_type": "application/x-www-form-urlencoded",
            "origin": "http://127.0.0.1:9109",
            **arguments,
        }
        return self.ask(path, "POST", body=body.encode(), **arguments)
