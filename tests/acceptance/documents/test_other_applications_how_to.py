"""docs/how-to/other-applications.md: each application is run as it is written, and its relay sends what it wrote."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.support import prefork
from tests.support.broker import Broker, Received

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "other-applications.md").read_text()

COMMANDS = re.findall(r"^signalbus-relay (.*)$", PAGE, re.MULTILINE)

USE_FASTAPI = """
import os
from fastapi.testclient import TestClient
from shop_api import app

with TestClient(app) as client:
    assert client.post("/orders/tea").json() == 1
    for _ in range(2):
        assert client.post("/payments/1?message_id=m-1").status_code == 200
"""

USE_LITE = """
from shop_lite import create_app
assert create_app().test_client().post("/orders/tea").json == {"order_id": 1}
"""

USE_SQLMODEL = """
import os
from sqlmodel import Session, SQLModel, create_engine
from shop_sqlmodel import Order, OrdersOutbox

engine = create_engine(os.environ["DATABASE_URL"])
SQLModel.metadata.create_all(engine)
with Session(engine) as session:
    order = Order(item="tea")
    session.add(order)
    session.flush()
    session.add(OrdersOutbox(routing_key="order.placed", body_json={"order_id": order.id, "item": "tea"}))
    session.commit()
"""

USE_DJANGO = """
import os
import django
from django.conf import settings
from django.core.management import call_command
from sqlalchemy import make_url

url = make_url(os.environ["DATABASE_URL"])
settings.configure(
    INSTALLED_APPS=["shop"],
    DATABASES={"default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": url.database, "USER": url.username,
        "PASSWORD": url.password or "", "HOST": url.host, "PORT": url.port,
    }},
)
django.setup()
call_command("migrate", verbosity=0)
from shop.orders import place_order
assert place_order("tea").id == 1
"""


class Project:
    """The files of the page in a directory."""

    def __init__(self, directory: Path, database_url: str, broker: Broker) -> None:
        self.directory, self.broker = directory, broker
        self.exchange = broker.exchange()
        self.queue = broker.queue(self.exchange, "order.placed")
        self.environ = os.environ | {"DATABASE_URL": database_url, "AMQP_URL": broker.url}
        for name, text in re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(re.sub(r'(signalbus_exchange.* = )"orders"', rf'\1"{self.exchange}"', text))
        (directory / "shop" / "__init__.py").touch()
        (directory / "shop" / "migrations" / "__init__.py").touch()

    def run(self, *command: str) -> str:
        done = prefork.run(command, self.environ, self.directory)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def relay(self, about: str) -> list[Received]:
        [command] = [one for one in COMMANDS if one.startswith("run ") and about in one]
        command = command.replace("--exchange orders", f"--exchange {self.exchange}")
        self.run("signalbus-relay", *command.split(), "--until-empty", "--http", "off")
        return self.broker.take_all(self.queue)


@pytest.fixture
def project(tmp_path: Path, database_url: str, broker: Broker) -> Project:
    return Project(tmp_path, database_url, broker)


@pytest.mark.parametrize(
    ("use", "about"),
    [(USE_FASTAPI, "shop_models"), (USE_LITE, "shop_lite"), (USE_SQLMODEL, "shop_sqlmodel"), (USE_DJANGO, "--table")],
    ids=["FastAPI", "Flask-SQLAlchemy-Lite", "SQLModel", "Django"],
)
def test_the_application_writes_and_its_relay_sends(project: Project, use: str, about: str) -> None:
    if use is USE_DJANGO:
        for command in (one for one in COMMANDS if one.startswith("ddl ")):
            arguments, _, file = command.partition(" >")
            with (project.directory / file.lstrip("> ")).open("a") as sql:
                sql.write(project.run("signalbus-relay", *arguments.split()))
    project.run("python", "-c", use)
    [message] = project.relay(about)
    assert json.loads(message.text) == {"order_id": 1, "item": "tea"}
    assert project.relay(about) == []
