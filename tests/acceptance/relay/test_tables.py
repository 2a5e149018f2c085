"""Outbox tables without an application, relayed by the real command."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from signalbus_core import doorbell_sql, parked_table_sql
from signalbus_core.rabbitmq import outbox_table_sql
from tests.support import prefork
from tests.support.broker import Broker, Received
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.processes import COMMAND, RelayProcess
from tests.support.shop import behind
from tests.support.waiting import eventually


class Outboxes:
    """A database with outbox tables, an exchange with a queue, and relays without an application."""

    def __init__(self, directory: Path, database_url: str, broker: Broker) -> None:
        self.directory = directory
        self.broker = broker
        self.engine = sa.create_engine(database_url)
        self.exchange = broker.exchange()
        self.queue = broker.queue(self.exchange)
        # As users write it: without a driver.
        self.database_url = database_url.replace("+psycopg2", "")
        self.environ = {"DATABASE_URL": self.database_url, "AMQP_URL": broker.url}
        self._stack = contextlib.ExitStack()

    def execute(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))

    def insert(self, table: str, columns: str = "exchange, routing_key, body", values: str = "'{x}', 'k', '1'") -> None:
        self.execute(f"INSERT INTO {table} ({columns}) VALUES ({values.replace('{x}', self.exchange)})")

    def count(self, table: str) -> int:
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)

    def wait_until_empty(self, table: str, timeout_seconds: float = 60) -> None:
        self.wait_until_left(table, 0, timeout_seconds)

    def wait_until_left(self, table: str, number: int, timeout_seconds: float = 60) -> None:
        eventually(lambda: self.count(table) == number, timeout_seconds, f"{table} has {number} rows")

    def relay(self, *arguments: str, **environ: str) -> RelayProcess:
        relay = RelayProcess(self.directory, "--poll-interval", "0.2", *arguments, environ={**self.environ, **environ})
        return self._stack.enter_context(relay)

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A command that ends by itself."""
        return prefork.run([COMMAND, *arguments], os.environ | self.environ | environ, self.directory)

    def send(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Send what is pending."""
        return self.run("run", "--until-empty", "--http", "off", *arguments, **environ)

    def received(self) -> list[Received]:
        return self.broker.take_all(self.queue)

    def close(self) -> None:
        self._stack.close()
        self.engine.dispose()


@pytest.fixture
def outboxes(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Outboxes]:
    outboxes = Outboxes(tmp_path, database_url, broker)
    yield outboxes
    outboxes.close()


def test_table_as_it_is_printed_is_relayed_woken_by_its_doorbell(outboxes: Outboxes) -> None:
    printed = outboxes.run("ddl", "outbox", "orders_outbox").stdout
    outboxes.execute(printed, *doorbell_sql("orders_outbox"))
    relay = outboxes.relay("--table", "orders_outbox", "--poll-interval", "60")
    relay.wait_for_log("doorbell_answered", 30)
    outboxes.insert(
        "orders_outbox", "exchange, routing_key, body_json, headers", "'{x}', 'k', '{\"a\": 1}', '{\"t\": 7}'"
    )
    outboxes.wait_until_empty("orders_outbox", 30)
    [message] = outboxes.received()
    assert (message.text, message.properties.headers) == ('{"a": 1}', {"t": 7})
    assert message.properties.type == "orders_outbox"
    # The column signalbus_id of the row.
    assert str(uuid.UUID(message.properties.message_id)) == message.properties.message_id
    assert message.properties.content_type == "application/json"
    assert 'signalbus_signals_sent_total{signal="orders_outbox"} 1.0' in relay.get("/metrics")[1]


def test_what_is_wrong_is_told_at_once_and_nothing_is_sent(outboxes: Outboxes) -> None:
    outboxes.execute(
        outbox_table_sql("orders_outbox"),
        "CREATE VIEW seen AS SELECT * FROM orders_outbox",
        "CREATE TABLE keyless (exchange text, routing_key text, body text, headers int)",
    )
    outboxes.insert("orders_outbox")
    done = outboxes.send(
        *("--table", "orders_outbox", "--table", "seen", "--table", "keyless", "--table", "none"),
        *("--map", "orders_outbox.nope=body"),
    )
    assert done.returncode == 2
    wrong = [line.removeprefix("signalbus-relay: --table ").split(". ")[0] for line in done.stderr.splitlines()]
    assert [line.split(";")[0] for line in wrong] == [
        "orders_outbox: there is no column 'nope'",
        "seen: it is a view",
        "keyless: it has no primary key",
        "keyless: its column 'headers' is of type integer",
        "none: there is no such table",
    ]
    assert outboxes.count("orders_outbox") == 1
    assert outboxes.received() == []


def test_wrong_options_are_told_before_the_database_is_asked(outboxes: Outboxes) -> None:
    done = outboxes.send("--table", "a", "--app", "shop", "--preset", "x", DATABASE_URL="mysql://h/d", AMQP_URL="")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line.removeprefix("signalbus-relay: ").split(":")[0] for line in lines] == [
        "--preset",
        "DATABASE_URL",
        "--app",
        "--amqp-url",
    ]


def test_two_replicas_send_partitioned_table_and_lose_nothing(outboxes: Outboxes) -> None:
    outboxes.execute(
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.outbox (day int, id bigint GENERATED ALWAYS AS IDENTITY, kind text, payload jsonb,"
        " PRIMARY KEY (day, id)) PARTITION BY LIST (day)",
        *(f"CREATE TABLE sales.outbox_{day} PARTITION OF sales.outbox FOR VALUES IN ({day})" for day in range(3)),
    )
    settings = {"exchange": outboxes.exchange, "map": {"kind": "routing_key", "payload": "body"}}
    (outboxes.directory / "tables.json").write_text(json.dumps({"tables": {"sales.outbox": settings}}))
    relays = [outboxes.relay("--tables", "tables.json", "--log-level", "DEBUG") for _ in range(2)]
    for relay in relays:
        relay.wait_ready(60)
    for start in range(0, 6000, 1500):
        outboxes.execute(
            "INSERT INTO sales.outbox (day, kind, payload) SELECT n % 3, 'placed', jsonb_build_object('n', n)"
            f" FROM generate_series({start + 1}, {start + 1500}) n"
        )
    outboxes.wait_until_empty("sales.outbox", 90)
    numbers = [json.loads(message.body)["n"] for message in outboxes.received()]
    assert sorted(numbers) == list(range(1, 6001))
    assert all(relay.logs("burst_sent") for relay in relays)


def test_bad_rows_are_parked_and_discarded_while_others_go(outboxes: Outboxes) -> None:
    outboxes.execute(outbox_table_sql("orders_outbox"), parked_table_sql())
    for headers in ("'[1]'", "NULL", "'{}'"):
        outboxes.insert("orders_outbox", "exchange, routing_key, body, headers", f"'{{x}}', 'k', '1', {headers}")
    relay = outboxes.relay("--table", "orders_outbox", "--park-after", "1")
    line = relay.wait_for_log("signal_parked", 30)
    assert (line["signal"], line["key"]) == ("orders_outbox", "1")
    eventually(lambda: outboxes.count("orders_outbox") == 1, 30)
    assert len(outboxes.received()) == 2

    [shown] = outboxes.run("parked", "list", "--table", "orders_outbox", "--json").stdout.splitlines()
    assert "headers: a JSON object expected, not an array" in json.loads(shown)["error_text"]
    discard = ("parked", "discard", "orders_outbox", "1", "--yes", "--table", "orders_outbox")
    row = json.loads(outboxes.run(*discard).stdout)["row"]
    assert (row["headers"], row["body"]) == ("[1]", {"base64": "MQ=="})
    assert outboxes.count("orders_outbox") == 0


def test_key_that_python_cannot_hold_is_told_at_end(outboxes: Outboxes) -> None:
    outboxes.execute("CREATE TABLE moments (at timestamptz PRIMARY KEY, exchange text, routing_key text, body text)")
    for at in ("-infinity", "2026-01-01"):
        outboxes.insert("moments", "at, exchange, routing_key, body", f"'{at}', '{{x}}', 'k', '{at}'")
    done = outboxes.send("--table", "moments")
    assert done.returncode == 1
    assert "1 signal has keys that Python cannot hold" in done.stderr
    assert [message.text for message in outboxes.received()] == ["2026-01-01"]


def test_the_other_commands_take_tables_too(outboxes: Outboxes) -> None:
    outboxes.execute(outbox_table_sql("orders_outbox"))
    bells = outboxes.run("ddl", "doorbell", "--table", "orders_outbox").stdout
    assert bells == outboxes.run("ddl", "doorbell", "orders_outbox").stdout
    outboxes.execute(bells, parked_table_sql())
    looked = outboxes.run("check", "--table", "orders_outbox", "--only", "tables", "--only", "doorbell")
    assert (looked.returncode, looked.stderr) == (0, "")
    outboxes.insert("orders_outbox")
    explained = outboxes.run("explain", "orders_outbox", "1", "--table", "orders_outbox", "--broker").stdout
    assert f"The exchange '{outboxes.exchange}' exists" in explained
    assert "No session of a relay" in explained
    assert outboxes.run("pending", "--table", "orders_outbox").stdout.splitlines()[1].split()[:2] == [
        "orders_outbox",
        "1",
    ]
    broken = outboxes.run("check", "--table", "none", "--table", "orders_outbox", "--map", "x=body")
    assert broken.returncode == 1
    assert "none: there is no such table" in broken.stdout
    assert "there is no column 'x'" in broken.stdout
    away = outboxes.run("parked", "list", "--table", "orders_outbox", DATABASE_URL="postgres://127.0.0.1:1/x")
    assert away.returncode == 1
    assert "Connection refused" in away.stderr


def test_a_database_that_is_away_at_the_start_is_waited_for(outboxes: Outboxes) -> None:
    outboxes.execute(outbox_table_sql("orders_outbox"))
    outboxes.insert("orders_outbox")
    proxy, url = behind(outboxes.database_url)
    with proxy:
        proxy.refuse()
        relay = outboxes.relay("--table", "orders_outbox", DATABASE_URL=url)
        relay.wait_for_log("database_down")
        # Its address answers meanwhile, as it will afterwards.
        assert relay.get("/livez")[0] == 200
        status, told = relay.get("/readyz")
        assert (status, json.loads(told)["state"]) == (503, "starting")
        assert any(reason.startswith("database is down: ") for reason in json.loads(told)["reasons"])
        proxy.forward()
        relay.wait_ready()
        outboxes.wait_until_empty("orders_outbox")
        assert relay.logs("database_up")


def test_relay_that_waits_for_database_stops_when_it_is_asked_to(outboxes: Outboxes) -> None:
    relay = outboxes.relay("--table", "orders_outbox", DATABASE_URL="postgres://127.0.0.1:1/x")
    relay.wait_for_log("database_down")
    relay.terminate()
    assert relay.wait() == 0


def test_until_empty_does_not_wait_longer_than_the_drain_timeout(outboxes: Outboxes) -> None:
    done = outboxes.send("--table", "a", "--drain-timeout", "0", DATABASE_URL="postgres://127.0.0.1:1/x")
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_are_relayed_through_a_pooler_in_transaction_mode(
    private_postgres: PrivatePostgres, tmp_path: Path, broker: Broker
) -> None:
    with PrivatePgBouncer(private_postgres, pool_size=2) as pooler:
        pooler.start()
        direct = private_postgres.create_database()
        outboxes = Outboxes(tmp_path, direct, broker)
        outboxes.execute(outbox_table_sql("orders_outbox"), *doorbell_sql("orders_outbox"))
        outboxes.environ["DATABASE_URL"] = pooler.in_front_of(direct)
        relay = outboxes.relay("--table", "orders_outbox")
        relay.wait_ready(60)
        outboxes.insert("orders_outbox", values="'{x}', 'k', '1'), ('{x}', 'k', '2'")
        outboxes.wait_until_empty("orders_outbox")
        assert [message.text for message in outboxes.received()] == ["1", "2"]
        outboxes.close()


MARKED = (
    "CREATE TABLE outbox (id bigint PRIMARY KEY, body text, status text, send_after timestamptz)",
    "INSERT INTO outbox SELECT i, i::text, 'SENT' FROM generate_series(1, 1204) AS i",
    "INSERT INTO outbox VALUES (2000, 'new', 'NEW')",
)


def test_every_command_refuses_a_table_that_marks_its_rows(outboxes: Outboxes) -> None:
    outboxes.execute(*MARKED)
    table = ("--table", "outbox", "--exchange", outboxes.exchange, "--routing-key", "k")
    for command in (("run", "--until-empty"), ("pending",), ("explain", "outbox", "1"), ("parked", "list")):
        done = outboxes.run(*command, *table)
        assert done.returncode == 2, command
        assert "'status' looks like a state (SENT 1,204, NEW 1)" in done.stderr
        assert "'send_after' looks like a time not before" in done.stderr
    checked = outboxes.run("check", "--only", "tables", "--json", *table)
    assert checked.returncode == 1
    codes = [json.loads(line)["code"] for line in checked.stdout.splitlines()]
    assert codes == ["rows-unsettled", "rows-unsettled"]
    early = outboxes.run("check", "--only", "tables", "--json", *table, "--where", "status = 'NEW'")
    assert early.returncode == 0
    assert [code for line in early.stdout.splitlines() if (code := json.loads(line)["code"]) != "area-fine"][:1] == [
        "rows-early"
    ]
    assert outboxes.received() == []
    assert outboxes.count("outbox") == 1205


def test_a_row_below_the_mark_is_sent_when_its_time_has_come(outboxes: Outboxes) -> None:
    outboxes.execute(*MARKED)
    table = ("--table", "outbox", "--exchange", outboxes.exchange, "--routing-key", "k")
    relay = outboxes.relay(*table, "--where", "status = 'NEW'", "--not-before", "send_after")
    eventually(lambda: outboxes.count("outbox") == 1204, 30, "what is due is sent")
    outboxes.execute(
        "INSERT INTO outbox VALUES (0, 'below', 'NEW', now() + interval '3 seconds')",
        "INSERT INTO outbox VALUES (1500, 'above', 'NEW', now() + interval '2 seconds')",
        "INSERT INTO outbox VALUES (3000, 'never', 'NEW', now() + interval '1 day')",
        "INSERT INTO outbox VALUES (2999, 'at once', 'NEW')",
    )
    eventually(lambda: outboxes.count("outbox") == 1205, 30, "all that is due is sent")
    assert [message.text for message in outboxes.received()] == ["new", "at once", "above", "below"]
    assert 'signalbus_signals_sent_total{signal="outbox"} 4.0' in relay.get("/metrics")[1]
    explained = outboxes.run("explain", "--no-broker", "outbox", "1", *table, "--where", "status = 'NEW'")
    assert explained.stdout.startswith("outbox 1 is in its table, and is not to be sent")


#: What the manifests in deploy/ give a relay.
MEMORY_LIMIT_BYTES = 256 * 1024 * 1024

#: Four MiB that do not compress.
LARGE = "(SELECT string_agg(md5(s::text), '') FROM generate_series(1, 131072) AS s)"


def peak_bytes(outboxes: Outboxes, *arguments: str) -> int:
    """Send what is pending; the most memory that the relay had."""
    command = [COMMAND, "run", "--until-empty", "--http", "off", *arguments]
    process = subprocess.Popen(command, env={**os.environ, **outboxes.environ}, cwd=outboxes.directory)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * 1024


@pytest.mark.parametrize("kind", ["text", "jsonb", "bytea"])
def test_large_bodies_are_sent_within_memory_of_our_manifests(outboxes: Outboxes, kind: str) -> None:
    body = {"text": LARGE, "jsonb": f"to_jsonb({LARGE})", "bytea": f"convert_to({LARGE}, 'UTF8')"}[kind]
    outboxes.execute(
        f"CREATE TABLE outbox (id bigint PRIMARY KEY, body {kind})",
        f"INSERT INTO outbox SELECT i, {body} FROM generate_series(1001, 1020) AS i",
    )
    small = {"text": "'x'", "jsonb": "'1'", "bytea": "'x'"}[kind]
    outboxes.execute(f"INSERT INTO outbox SELECT i, {small} FROM generate_series(1, 1000) AS i")
    peak = peak_bytes(outboxes, "--table", "outbox", "--exchange", outboxes.exchange, "--routing-key", "k")
    assert peak < MEMORY_LIMIT_BYTES
    assert outboxes.count("outbox") == 0
