"""The doorbell's SQL against a real PostgreSQL: which inserts ring, when, and what it costs their writers."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin, doorbell_sql
from signalbus_core.lowlevel import doorbell, doorbell_problem, find_doorbells
from tests.support.waiting import eventually


class Database(SignalBusMixin, SQLAlchemy):
    pass


def plain(url: str) -> str:
    return url.replace("+psycopg2", "")


class Listener:
    """A session that listens to the bells of tables, and may sleep."""

    def __init__(self, url: str, *tables: str) -> None:
        self.connection = psycopg2.connect(plain(url), connect_timeout=10)
        self.connection.autocommit = True
        self.oids = {table: self.ask(f"SELECT CAST('{table}'::regclass AS bigint)") for table in tables}
        for oid in self.oids.values():
            self.execute(f"LISTEN {doorbell.channel_of(oid)}")

    def execute(self, statement: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def ask(self, statement: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]

    def sleep(self, table: str) -> None:
        self.execute(f"SELECT pg_advisory_lock({doorbell.SLEEP_LOCK}, {self.oids[table]}::oid::int)")

    def wake(self, table: str) -> None:
        self.execute(f"SELECT pg_advisory_unlock({doorbell.SLEEP_LOCK}, {self.oids[table]}::oid::int)")

    def rings(self) -> int:
        """How often it rang since it was last asked."""
        # What was committed before is delivered before the answer.
        self.ask("SELECT 1")
        self.connection.poll()
        number = len(self.connection.notifies)
        self.connection.notifies.clear()
        return number

    def is_rung(self, timeout_seconds: float = 20) -> bool:
        select.select([self.connection], [], [], timeout_seconds)
        return self.rings() > 0


@pytest.fixture
def listening(database_url: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def open_listener(*tables: str) -> Listener:
            listener = Listener(database_url, *tables)
            stack.callback(listener.connection.close)
            return listener

        yield open_listener


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url)
    yield engine
    engine.dispose()


def run(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def signal_table(engine: sa.Engine, name: str = "signal") -> None:
    run(engine, f"CREATE TABLE {name} (id int PRIMARY KEY)", *doorbell_sql(name))


@contextlib.contextmanager
def session(url: str) -> Iterator[Any]:
    connection = psycopg2.connect(plain(url), connect_timeout=10)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


# When it rings


def test_insert_rings_only_while_relay_sleeps(engine: sa.Engine, listening: Any) -> None:
    signal_table(engine)
    listener = listening("signal")
    run(engine, "INSERT INTO signal VALUES (1)")
    assert listener.rings() == 0
    listener.sleep("signal")
    run(engine, "INSERT INTO signal VALUES (2)")
    assert listener.rings() == 1
    listener.wake("signal")
    run(engine, "INSERT INTO signal VALUES (3)")
    assert listener.rings() == 0


def test_a_bell_is_heard_at_commit_and_never_after_a_rollback(
    engine: sa.Engine, listening: Any, database_url: str
) -> None:
    signal_table(engine)
    listener = listening("signal")
    listener.sleep("signal")
    with session(database_url) as writer:
        writer.execute("INSERT INTO signal VALUES (1)")
        assert listener.rings() == 0
        writer.connection.rollback()
        assert listener.rings() == 0
        writer.execute("INSERT INTO signal VALUES (1)")
        writer.connection.commit()
    assert listener.rings() == 1


def test_who_falls_asleep_waits_for_silent_writers(engine: sa.Engine, listening: Any, database_url: str) -> None:
    signal_table(engine)
    ear, sleeper = listening("signal"), listening("signal")
    with session(database_url) as early:
        early.execute("INSERT INTO signal VALUES (1)")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            sleeper.execute(
                f"SET lock_timeout = '200ms'; SELECT pg_advisory_lock({doorbell.SLEEP_LOCK}, {sleeper.oids['signal']})"
            )
        sleeper.execute("SET lock_timeout = 0")
        with session(database_url) as queue:
            queue.connection.autocommit = True
            thread = sleeping_in_background(sleeper)
            waiting = (
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            eventually(lambda: ear.ask(waiting) == 1, 20)
            queue.execute("INSERT INTO signal VALUES (2)")
            assert ear.rings() == 1
            early.connection.commit()
            thread.join(20)
            assert not thread.is_alive()
    # It was committed before the sleeper's turn, so a look finds it; no bell is needed.
    assert ear.rings() == 0


def sleeping_in_background(sleeper: Listener) -> Any:
    import threading

    thread = threading.Thread(target=sleeper.sleep, args=("signal",), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO signal SELECT generate_series(1, 1000)",
        "INSERT INTO signal VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2",
        "WITH w AS (INSERT INTO signal VALUES (5) RETURNING id) SELECT * FROM w",
    ],
    ids=["many", "upsert", "with"],
)
def test_every_kind_of_insert_rings_once_for_a_statement(engine: sa.Engine, listening: Any, statement: str) -> None:
    signal_table(engine)
    listener = listening("signal")
    listener.sleep("signal")
    run(engine, statement)
    assert listener.rings() == 1


def test_copy_rings(engine: sa.Engine, listening: Any, database_url: str) -> None:
    import io

    signal_table(engine)
    listener = listening("signal")
    listener.sleep("signal")
    with session(database_url) as writer:
        writer.copy_expert("COPY signal FROM STDIN", io.StringIO("1\n2\n3\n"))
        writer.connection.commit()
    assert listener.rings() == 1


def test_updates_and_deletes_do_not_ring(engine: sa.Engine, listening: Any) -> None:
    signal_table(engine)
    run(engine, "INSERT INTO signal VALUES (1)")
    listener = listening("signal")
    listener.sleep("signal")
    run(engine, "UPDATE signal SET id = 2", "DELETE FROM signal")
    assert listener.rings() == 0


def test_table_that_is_renamed_moved_or_partitioned_rings(engine: sa.Engine, listening: Any) -> None:
    signal_table(engine)
    run(
        engine,
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
        *doorbell_sql("parts"),
    )
    listener = listening("signal", "parts")
    listener.sleep("signal")
    listener.sleep("parts")
    run(engine, "INSERT INTO parts VALUES (1)")
    assert listener.rings() == 1
    run(engine, "CREATE SCHEMA attic", "ALTER TABLE signal SET SCHEMA attic", 'ALTER TABLE attic.signal RENAME TO "An"')
    run(engine, 'INSERT INTO attic."An" VALUES (1)')
    assert listener.rings() == 1


def test_bells_of_different_tables_are_nothing_to_each_other(engine: sa.Engine, listening: Any) -> None:
    signal_table(engine, "first")
    signal_table(engine, "second")
    first, second = listening("first"), listening("second")
    first.sleep("first")
    run(engine, "INSERT INTO second VALUES (1)")
    assert (first.rings(), second.rings()) == (0, 0)
    second.sleep("second")
    run(engine, "INSERT INTO second VALUES (2)")
    assert (first.rings(), second.rings()) == (0, 1)


# What it costs its writers


def test_a_login_with_no_other_right_than_to_insert_rings(engine: sa.Engine, listening: Any, database_url: str) -> None:
    signal_table(engine)
    role = f"writer_{database_url.rsplit('_', 1)[1]}"
    run(
        engine,
        f"CREATE ROLE {role}",
        f"GRANT INSERT ON signal TO {role}",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        "REVOKE ALL ON FUNCTION signalbus_ring() FROM PUBLIC",
    )
    listener = listening("signal")
    listener.sleep("signal")
    try:
        run(engine, f"SET LOCAL ROLE {role}", "SET LOCAL search_path = ''", "INSERT INTO public.signal VALUES (1)")
        assert listener.rings() == 1
    finally:
        run(engine, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_no_insert_fails_because_of_the_bell(engine: sa.Engine, listening: Any, database_url: str) -> None:
    signal_table(engine)
    role = f"writer_{database_url.rsplit('_', 1)[1]}"
    run(
        engine,
        f"CREATE ROLE {role}",
        f"GRANT INSERT ON signal TO {role}",
        "REVOKE ALL ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC",
        "REVOKE ALL ON FUNCTION pg_catalog.pg_try_advisory_xact_lock_shared(int, int) FROM PUBLIC",
    )
    try:
        run(engine, f"SET LOCAL ROLE {role}", "INSERT INTO signal VALUES (1)")
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT count(*) FROM signal")) == 1
    finally:
        run(engine, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# How it is made


class Outbox:
    """An application with models that have a doorbell, and some that do not."""

    def __init__(self, url: str, schema: str | None = None) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = db = Database(self.app, metadata=sa.MetaData(schema=schema))

        class Order(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

            def send_signalbus_message(self) -> None: ...

        class Quiet(db.Model):  # type: ignore[name-defined,misc]
            signalbus_doorbell = False
            id = db.Column(db.Integer, primary_key=True)

            def send_signalbus_message(self) -> None: ...

        class Plain(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)

        self.models = [Order, Quiet, Plain]
        with self.app.app_context():
            self.engine = db.engine
            [self.order, self.quiet] = db.signalbus.specs()

    def problems(self) -> list[str | None]:
        with self.engine.connect() as connection:
            return [doorbell_problem(connection, spec) for spec in (self.order, self.quiet)]

    def triggers(self) -> list[str]:
        with self.engine.connect() as connection:
            rows = connection.scalars(
                sa.text("SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal")
            )
            return sorted(rows)


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


def test_create_all_makes_bells_of_models_that_want_them(outbox: Outbox) -> None:
    with outbox.app.app_context():
        outbox.db.create_all()
        assert outbox.triggers() == ["order"]
        assert outbox.problems() == [None, None]
        outbox.db.create_all()
        outbox.db.drop_all()
        outbox.db.create_all()
    assert outbox.triggers() == ["order"]


def test_create_all_makes_the_bell_in_the_schema_of_the_model(database_url: str, engine: sa.Engine) -> None:
    run(engine, 'CREATE SCHEMA "Sales"')
    outbox = Outbox(database_url, "Sales")
    with outbox.app.app_context():
        outbox.db.create_all()
    assert outbox.problems() == [None, None]
    with engine.connect() as connection:
        schema = "SELECT pronamespace::regnamespace::text FROM pg_proc WHERE proname = 'signalbus_ring'"
        assert connection.scalars(sa.text(schema)).all() == ['"Sales"']
    outbox.engine.dispose()


def test_create_all_follows_a_schema_translation(outbox: Outbox, engine: sa.Engine) -> None:
    run(engine, "CREATE SCHEMA tenant")
    with engine.connect().execution_options(schema_translate_map={None: "tenant"}) as connection:
        outbox.db.metadata.create_all(connection)
        connection.commit()
    with engine.connect() as connection:
        tables = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'signalbus_doorbell'"
        assert connection.scalars(sa.text(tables)).all() == ['tenant."order"']


def test_metadata_can_opt_out_as_a_whole(database_url: str) -> None:
    db = Database(metadata=sa.MetaData())
    db.metadata.info["signalbus_doorbell"] = False
    members = {"id": sa.Column(sa.Integer, primary_key=True), "send_signalbus_message": lambda self: None}
    model = type("Silent", (db.Model,), members)
    assert doorbell_sql(model) == []


def test_create_all_on_sqlite_makes_no_bell_and_does_not_fail() -> None:
    outbox = Outbox("sqlite://")
    with outbox.app.app_context():
        outbox.db.create_all()
        outbox.db.drop_all()
        with outbox.engine.connect() as connection:
            assert "PostgreSQL" in (doorbell_problem(connection, outbox.order) or "")


def test_autogenerated_migrations_see_no_difference(outbox: Outbox) -> None:
    with outbox.app.app_context():
        outbox.db.create_all()
        with outbox.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), outbox.db.metadata) == []


def test_the_statements_can_be_run_again_and_mend_what_is_wrong(outbox: Outbox, engine: sa.Engine) -> None:
    with outbox.app.app_context():
        outbox.db.create_all()
    statements = doorbell_sql(*outbox.models[:2])
    assert len(statements) == 2
    run(engine, *statements)
    assert outbox.problems() == [None, None]

    run(engine, 'ALTER TABLE "order" DISABLE TRIGGER signalbus_doorbell')
    assert "is disabled" in (outbox.problems()[0] or "")
    run(engine, 'ALTER TABLE "order" ENABLE TRIGGER signalbus_doorbell')
    run(
        engine,
        "CREATE OR REPLACE FUNCTION signalbus_ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    )
    assert "is outdated" in (outbox.problems()[0] or "")
    run(engine, 'DROP TRIGGER signalbus_doorbell ON "order"')
    assert "has no trigger" in (outbox.problems()[0] or "")
    run(engine, *statements)
    assert outbox.problems() == [None, None]
    run(engine, 'DROP TABLE "order"')
    assert "does not exist" in (outbox.problems()[0] or "")


def test_one_statement_tells_of_all_models(outbox: Outbox) -> None:
    with outbox.app.app_context():
        outbox.db.create_all()
    statements: list[str] = []
    sa.event.listen(outbox.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    with outbox.engine.connect() as connection:
        order, quiet = find_doorbells(connection, [outbox.order, outbox.quiet])
    assert len(statements) == 1
    assert (order.rings, quiet.rings, quiet.is_wanted) == (True, False, False)
    assert order.table_oid != quiet.table_oid
