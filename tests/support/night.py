"""A shop with servers of its own and two relays, to which at night everything happens that can go wrong."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from signalbus_core import parked_table_sql, paused_table_sql

from .broker import Broker
from .deployment import RULES
from .postgres import PrivatePostgres
from .processes import RelayProcess
from .prometheus import PrivatePrometheus
from .rabbitmq import PrivateRabbitMQ
from .shop import Shop

TOKEN = "a-token-of-operators-0123456789"

#: The application's message of a signal, and one that some signals do not have.
MAKES = "return Message(None, self.routing_key, self.body)"
FAILS = f'if self.body == "poison":\n            raise ValueError("it has no currency")\n        {MAKES}'


def alerts_without_patience() -> str:
    """The rules as they are, but each alert fires as soon as it has been true for a second."""
    text, count = re.subn(r"^( *for): \S+$", r"\1: 1s", RULES.read_text(), flags=re.MULTILINE)
    assert count
    return text


class Night:
    """A shop with servers of its own, two relays, a Prometheus, and orders that come in all the time."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.postgres = stack.enter_context(PrivatePostgres(settings=["autovacuum=off"])).start()
        self.rabbitmq = stack.enter_context(PrivateRabbitMQ()).start()
        self.set_password("first")
        self.broker = Broker(self.rabbitmq.url)
        self.shop = Shop(directory, self.postgres.create_database(), self.broker)
        stack.callback(self.shop.close)
        source = directory / "shop.py"
        source.write_text(source.read_text().replace(MAKES, FAILS))
        with self.shop.engine.begin() as connection:
            connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
        self.exchange = self.shop.environ["TEST_EXCHANGE"]
        self.shop.environ["TEST_AMQP_URL"] = self.rabbitmq.vhost_url("%2F", "shop", "first")
        arguments = ("--app", "shop:create_app", "--park-after", "1")
        environ = {**self.shop.environ, "SIGNALBUS_RELAY_OPERATOR_TOKEN": TOKEN}
        self.relays = [stack.enter_context(RelayProcess(directory, *arguments, environ=environ)) for _ in range(2)]
        for relay in self.relays:
            relay.wait_ready(60)
        ports = [relay.port for relay in self.relays]
        self.prometheus = stack.enter_context(PrivatePrometheus(ports, alerts_without_patience()))
        self._over = threading.Event()
        orders = threading.Thread(target=self._order, daemon=True)
        orders.start()
        stack.callback(orders.join)
        stack.callback(self._over.set)

    def _order(self) -> None:
        number = 0
        while not self._over.wait(0.4):
            number += 1
            # Customers do not wait for a table that is locked, and come again when the database is back.
            with contextlib.suppress(psycopg2.Error), self.connect() as connection, connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '100ms'")
                cursor.execute("""INSERT INTO "order" (routing_key, body) VALUES ('wanted', %s)""", (number,))

    @contextmanager
    def connect(self, **parameters: Any) -> Iterator[Any]:
        """A connection whose transaction is committed at the end."""
        url = self.shop.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with contextlib.closing(psycopg2.connect(url, **parameters)) as connection, connection:
            yield connection

    def set_password(self, password: str) -> None:
        """Give the relays' user this password, and close its connections."""
        self.rabbitmq.eval(
            'case rabbit_auth_backend_internal:exists(<<"shop">>) of true -> '
            f'rabbit_auth_backend_internal:change_password(<<"shop">>, <<"{password}">>, <<"t">>); false -> '
            f'rabbit_auth_backend_internal:add_user(<<"shop">>, <<"{password}">>, <<"t">>) end, '
            'rabbit_auth_backend_internal:set_permissions(<<"shop">>, <<"/">>, <<".*">>, <<".*">>, <<".*">>, <<"t">>), '
            '[(catch rabbit_networking:close_connection(P, "closed")) || P <- rabbit_networking:connections(), '
            '(catch rabbit_networking:connection_info(P, [user])) =:= [{user, <<"shop">>}]].'
        )

    def set_disk_limit(self, limit: str) -> None:
        self.rabbitmq.eval(f'rabbit_disk_monitor:set_disk_free_limit("{limit}").')

    def forget_failures(self) -> None:
        """Remove failed signals, so that what comes next begins well."""
        self.shop.execute("""DELETE FROM "order" WHERE body = 'poison' OR id IN
            (SELECT CAST(key AS int) FROM signalbus_parked); TRUNCATE signalbus_parked""")

    def first_key(self) -> str:
        """The key of the signal that somebody asks about: the one that has failed, else the first."""
        with contextlib.suppress(psycopg2.Error), self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '100ms'")
            cursor.execute("""SELECT coalesce((SELECT min(CAST(key AS int)) FROM signalbus_parked),
                (SELECT min(id) FROM "order"))""")
            [found] = cursor.fetchone()
            return str(found or 1)
        return "1"
