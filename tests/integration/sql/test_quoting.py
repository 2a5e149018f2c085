"""Names of tables that SQLAlchemy writes differently for the driver: no question about them misses them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.outbox_tables.catalog import find_tables
from relay.application.outbox_tables.names import TableName
from relay.checks.tables import check_tables
from signalbus_core import SignalBusMixin, autovacuum_sql, doorbell_sql
from signalbus_core.lowlevel import (
    autovacuum_problem,
    count_dead_rows,
    find_doorbells,
    locate,
    quoted,
    table_privileges,
)
from signalbus_core.rabbitmq import outbox_table_sql
from tests.support.waiting import eventually


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Outbox:
    def __init__(self, url: str) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = db = Database(self.app)
        self.sent: list[int] = []
        outbox = self

        class Order(db.Model):  # type: ignore[name-defined,misc]
            __tablename__ = "a%b"
            __table_args__ = {"schema": '50%% "off"'}
            id = db.Column(sa.BigInteger, sa.Identity(), primary_key=True)
            body = db.Column(sa.Text)

            def send_signalbus_message(self) -> None:
                outbox.sent.append(cast(int, self.id))

        self.model: Any = Order
        with self.app.app_context():
            with db.engine.begin() as connection:
                connection.execute(sa.schema.CreateSchema('50%% "off"'))
            db.create_all()
            self.engine = db.engine
            [self.spec] = db.signalbus.specs()

    def execute(self, *statements: Any) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement) if isinstance(statement, str) else statement)


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


def test_signals_of_table_with_percent_sign_in_its_name_are_sent(outbox: Outbox) -> None:
    outbox.execute(sa.insert(outbox.spec.table).values(body="first"))
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 1
    assert outbox.sent == [1]


def test_what_is_asked_about_such_a_table_is_asked_of_it(outbox: Outbox) -> None:
    outbox.execute(*autovacuum_sql(outbox.model), *doorbell_sql(outbox.model))
    outbox.execute(sa.insert(outbox.spec.table).values(body="first"))
    with outbox.engine.connect() as connection:
        assert find_doorbells(connection, [outbox.spec])[0].rings
        assert autovacuum_problem(connection, outbox.spec) is None
        assert "DELETE" in (table_privileges(connection, outbox.spec.table) or ())
        assert list(check_tables(connection, [outbox.spec])) == []
        assert locate.sequence_has_returned(connection, outbox.spec, (1,)) is True
        [facts] = find_tables(connection, [TableName('50%% "off"', "a%b")])
        assert facts.oid is not None


def test_the_dead_rows_and_the_holder_of_such_a_table_are_found(outbox: Outbox) -> None:
    table = outbox.spec.table
    outbox.execute(sa.insert(table).values([{"body": "first"}, {"body": "second"}]), sa.delete(table))

    def dead_rows() -> int:
        with outbox.engine.connect() as connection:
            return count_dead_rows(connection, [outbox.spec])[0]

    eventually(lambda: dead_rows() == 2, 30)
    with outbox.engine.connect() as holding, outbox.engine.connect() as connection:
        holding.execute(sa.text(f"LOCK TABLE {quoted(table)}"))
        pid = holding.scalar(sa.text("SELECT pg_backend_pid()"))
        holder = locate.table_holder(connection, outbox.spec)
        assert holder is not None
        assert holder.pid == pid


def test_printed_sql_has_each_percent_sign_once() -> None:
    printed = [*doorbell_sql("a%b"), *autovacuum_sql("a%b"), outbox_table_sql("a%b")]
    assert [statement.count('"a%b"') for statement in printed] == [0, 1, 1, 1]
