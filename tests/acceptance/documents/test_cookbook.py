"""The recipes of the cookbook: each is imported as it is written, and its messages arrive."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from signalbus_core import SignalBusError
from tests.support.broker import Broker
from tests.support.reader import snippets
from tests.support.waiting import eventually

PAGE = (Path(__file__).parents[3] / "docs/how-to/cookbook.md").read_text()
BEGINNING, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
RECIPES = {section.partition("\n")[0]: snippets(section, "python") for section in SECTIONS}


def module(path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(code)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, made)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def cook(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str, amqp_url: str
) -> Iterator[Callable[..., tuple[ModuleType, Flask]]]:
    """Imports a recipe, and makes its tables."""
    contexts = []

    def cook(title: str, set_up: Callable[[ModuleType, Flask], object] | None = None) -> tuple[ModuleType, Flask]:
        monkeypatch.setenv("DATABASE_URL", database_url)
        monkeypatch.setenv("RABBITMQ_URL", amqp_url)
        shop = module(tmp_path / "shop.py", snippets(BEGINNING, "python")[0], monkeypatch)
        recipe = module(tmp_path / "recipe.py", RECIPES[title][0], monkeypatch)
        if recipe.db is not shop.db:
            shop.db = recipe.db
        app = shop.create_app()
        if set_up is not None:
            set_up(recipe, app)
        context = app.app_context()
        context.push()
        contexts.append((context, shop.db))
        shop.db.create_all()
        return recipe, app

    yield cook
    for context, db in contexts:
        db.session.remove()
        for engine in db.engines.values():
            engine.dispose()
        context.pop()


@pytest.fixture
def bound(broker: Broker) -> Iterator[Callable[[str], str]]:
    """Queues bound to exchanges, which are declared as well."""
    made: list[str] = []

    def bound(exchange: str) -> str:
        queue = f"cookbook-{uuid4().hex[:8]}"
        with broker.channel as channel:
            channel.exchange_declare(exchange, exchange_type="topic", durable=True)
            channel.queue_declare(queue, durable=True)
            channel.queue_bind(queue, exchange, "#")
        made.append(queue)
        return queue

    yield bound
    with broker.channel as channel:
        for queue in made:
            channel.queue_delete(queue)


def sent(db: Any) -> int:
    db.session.commit()
    return db.signalbus.flushmany()


def test_a_signal_calls_a_celery_task(cook: Callable[..., Any], broker: Broker, tmp_path: Path, amqp_url: str) -> None:
    queue = f"celery-{uuid4().hex[:8]}"
    recipe, _ = cook("Celery tasks from signals")
    original = recipe.Task.signalbus_message
    assert '"celery"' in RECIPES["Celery tasks from signals"][0]

    def to_own_queue(self: Any) -> Any:
        return replace(original(self), routing_key=queue)

    recipe.Task.signalbus_message = to_own_queue
    with broker.channel as channel:
        channel.queue_declare(queue, durable=True)
    recipe.call("shop.pack", order_id=7)
    assert sent(recipe.db) == 1
    (tmp_path / "tasks.py").write_text(RECIPES["Celery tasks from signals"][1])
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "tasks", "worker", "--pool", "solo", "--queues", queue,
             "--without-gossip", "--without-mingle"],
            cwd=tmp_path, stdout=log, stderr=log, env=os.environ | {"RABBITMQ_URL": amqp_url},
        )  # fmt: skip
    try:
        eventually(lambda: "Order 7 is packed." in (tmp_path / "log").read_text(), 60)
    finally:
        worker.terminate()
        worker.wait(30)
        with broker.channel as channel:
            channel.queue_delete(queue)


def test_one_signal_goes_to_two_exchanges(
    cook: Callable[..., Any], broker: Broker, bound: Callable[[str], str]
) -> None:
    orders, audit = bound("orders"), bound("audit")
    recipe, _ = cook("Fan-out to two exchanges")
    recipe.db.session.add(recipe.OrderPlaced(order_id=1, customer="Ann"))
    assert sent(recipe.db) == 1
    [order], [audited] = broker.take_all(orders), broker.take_all(audit)
    assert json.loads(order.body) == {"order_id": 1}
    assert json.loads(audited.body) == {"order_id": 1, "customer": "Ann"}
    assert audited.properties.message_id == f"{order.properties.message_id}#2"


def test_a_claim_check_is_small_and_leads_to_the_document(
    cook: Callable[..., Any], broker: Broker, bound: Callable[[str], str]
) -> None:
    queue = bound("documents")
    recipe, app = cook("Large payloads: the claim check", lambda recipe, app: app.register_blueprint(recipe.documents))
    content = os.urandom(1 << 20)
    recipe.write(content)
    assert sent(recipe.db) == 1
    [message] = broker.take_all(queue)
    assert len(message.body) < 200
    claim = json.loads(message.body)
    answer = app.test_client().get(claim["document"])
    assert answer.data == content
    assert claim["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_tenant_whose_virtual_host_is_away_delays_nobody(
    cook: Callable[..., Any], broker: Broker, bound: Callable[[str], str], amqp_url: str
) -> None:
    queue = bound("orders")
    urls = {"acme": amqp_url, "globex": "amqp://localhost:1/globex"}
    recipe, _ = cook("One virtual host for each tenant", lambda recipe, app: recipe.init_tenants(app, urls))
    for tenant in recipe.TENANTS:
        recipe.db.session.add(recipe.orders_placed[tenant](order_id=1))
    recipe.db.session.commit()
    bus = recipe.db.signalbus
    with pytest.raises(SignalBusError):
        bus.flushmany()
    [message] = broker.take_all(queue)
    assert message.properties.message_id
    waiting = {name: count for name, count in left(recipe).items() if count}
    assert waiting == {"globex": 1}


def left(recipe: ModuleType) -> dict[str, int]:
    db = recipe.db
    return {
        tenant: db.session.scalar(db.select(db.func.count()).select_from(model))
        for tenant, model in recipe.orders_placed.items()
    }


def test_an_event_has_the_attributes_of_cloudevents(
    cook: Callable[..., Any], broker: Broker, bound: Callable[[str], str]
) -> None:
    queue = bound("events")
    recipe, _ = cook("CloudEvents")
    recipe.db.session.add(recipe.Event(event_type="shop.order.placed", data={"order_id": 1}))
    assert sent(recipe.db) == 1
    [message] = broker.take_all(queue)
    assert message.properties.content_type == "application/cloudevents+json"
    event = json.loads(message.body)
    assert {"specversion", "id", "source", "type", "time"} <= set(event)
    assert event["id"] == message.properties.message_id
    assert event["data"] == {"order_id": 1}


def test_typed_models_are_sent(cook: Callable[..., Any], broker: Broker, bound: Callable[[str], str]) -> None:
    queue = bound("prices")
    recipe, _ = cook("Typed models")
    recipe.db.session.add(recipe.PriceChanged(item="tea", price=recipe.Decimal("1.50")))
    assert sent(recipe.db) == 1
    [message] = broker.take_all(queue)
    assert json.loads(message.body) == {"item": "tea", "price": "1.50", "note": None}
