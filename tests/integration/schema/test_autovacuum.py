"""The autovacuum settings of signal tables, against a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin, autovacuum_sql
from signalbus_core.lowlevel import SignalSpec, autovacuum_problem
from tests.support.postgres import PrivatePostgres


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Outbox:
    """An application with one signal model in a schema of its own."""

    def __init__(self, url: str) -> None:
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        db = Database(app)
        members: dict[str, Any] = {
            "__tablename__": "Order",
            "__table_args__": {"schema": "sales"},
            "id": db.Column(sa.BigInteger, primary_key=True),
            "send_signalbus_message": lambda self: None,
        }
        self.model = type("Order", (db.Model,), members)
        with app.app_context():
            self.engine = db.engine
            self.execute("CREATE SCHEMA sales")
            db.create_all()
            self.spec: SignalSpec = db.signalbus.specs()[0]

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))

    def problem(self) -> str | None:
        with self.engine.connect() as connection:
            return autovacuum_problem(connection, self.spec)


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


def test_printed_settings_end_problem_and_can_be_run_again(outbox: Outbox) -> None:
    problem = outbox.problem()
    assert problem is not None
    assert "`signalbus-relay ddl autovacuum sales.Order`" in problem
    outbox.execute(*autovacuum_sql(outbox.model), *autovacuum_sql("sales.Order", outbox.spec.table))
    assert outbox.problem() is None
    with outbox.engine.connect() as connection:
        options = connection.scalar(sa.text("SELECT reloptions FROM pg_class WHERE relname = 'Order'"))
    assert "autovacuum_vacuum_scale_factor=0" in options


def test_settings_of_ones_own_are_taken_as_meant(outbox: Outbox) -> None:
    outbox.execute('ALTER TABLE sales."Order" SET (autovacuum_vacuum_scale_factor = 0.01)')
    assert outbox.problem() is None


def test_a_table_that_is_left_out_by_autovacuum_is_told(outbox: Outbox) -> None:
    outbox.execute(*autovacuum_sql(outbox.model), 'ALTER TABLE sales."Order" SET (autovacuum_enabled = off)')
    assert 'off for the table sales."Order"' in (outbox.problem() or "")
    outbox.execute(*autovacuum_sql(outbox.model))
    assert outbox.problem() is None


def test_of_a_partitioned_table_each_partition_needs_settings(outbox: Outbox) -> None:
    outbox.execute(
        'DROP TABLE sales."Order"',
        'CREATE TABLE sales."Order" (id bigint PRIMARY KEY) PARTITION BY RANGE (id)',
        'CREATE TABLE sales.first PARTITION OF sales."Order" FOR VALUES FROM (0) TO (10)',
        'CREATE TABLE sales.rest PARTITION OF sales."Order" DEFAULT',
        *autovacuum_sql("sales.first"),
    )
    assert "sales.rest" in (outbox.problem() or "")
    outbox.execute(*autovacuum_sql("sales.rest"))
    assert outbox.problem() is None


def test_a_missing_table_has_no_settings_to_miss(outbox: Outbox) -> None:
    outbox.execute('DROP TABLE sales."Order"')
    assert outbox.problem() is None


def test_a_server_without_autovacuum_is_told() -> None:
    with PrivatePostgres(settings=["autovacuum=off"]) as server:
        server.start()
        outbox = Outbox(server.create_database())
        outbox.execute(*autovacuum_sql(outbox.model))
        assert "off for the whole server" in (outbox.problem() or "")
        outbox.engine.dispose()
