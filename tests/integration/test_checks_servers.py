"""What `check` finds, made real: each time one thing is broken, on real servers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.checks.bloat import check_bloat
from relay.checks.finding import AREAS, KINDS, Finding
from relay.checks.run import Subject, find_problems
from relay.cli import cli
from relay.commands.check import as_json
from relay.config import resolve
from relay.loading import find_broker, find_bus
from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message, RabbitMQSignal
from tests.support.broker import Broker
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.programs import free_port
from tests.support.rabbitmq import PrivateRabbitMQ


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Checked:
    """An application with one signal model, and what is found wrong with it."""

    def __init__(self, database_url: str, amqp_url: str, exchange: str | None = None, **options: Any) -> None:
        self.app = Flask(__name__)
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI=database_url, SIGNALBUS_RABBITMQ_URL=amqp_url, SQLALCHEMY_ENGINE_OPTIONS=options
        )
        self.db = db = Database(self.app)

        class Order(RabbitMQSignal, db.Model):  # type: ignore[name-defined]
            signalbus_exchange = exchange
            signalbus_routing_key = "wanted"
            id = db.Column(sa.Integer, primary_key=True)
            body = db.Column(sa.Text)

            def signalbus_message(self) -> Message:
                if self.body and self.body.startswith("bad"):
                    raise ValueError(f"cannot read {self.body}")
                return Message(body=b"", routing_key=self.body)

        self.order = Order

    def find(self, *areas: str, send_probe: bool = False) -> list[Finding]:
        config = resolve({"app": "shop"}, {})
        loaded = find_bus(self.app, ())
        find_broker(loaded, None)
        try:
            return find_problems(Subject(self.app, loaded.bus, config, send_probe), areas or AREAS)
        finally:
            for publisher in self.app.extensions["signalbus_publishers"]:
                publisher.close()
            with self.app.app_context():
                self.db.engine.dispose()

    def codes(self, *areas: str, **options: bool) -> set[str]:
        findings = self.find(*areas, **options)
        for finding in findings:
            assert finding.level == "ok" or (finding.problem and finding.remedy), finding
            assert finding.code in KINDS
        return {finding.code for finding in findings}

    def create(self) -> None:
        with self.app.app_context():
            self.db.create_all()

    def execute(self, *statements: str) -> None:
        engine = sa.create_engine(self.app.config["SQLALCHEMY_DATABASE_URI"])
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        engine.dispose()


@pytest.fixture
def away() -> str:
    return f"amqp://someone:geheim@127.0.0.1:{free_port()}/"


@pytest.fixture
def checked(database_url: str, away: str) -> Checked:
    """With its tables, and a broker that is away."""
    checked = Checked(database_url, away)
    checked.create()
    return checked


AUTOVACUUM = 'ALTER TABLE "order" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)'


def test_tables_that_are_as_they_should_be_are_fine(checked: Checked) -> None:
    checked.execute(AUTOVACUUM)
    assert checked.codes("config", "models", "tables", "bloat", "doorbell") == {"area-fine"}


@pytest.mark.parametrize(
    ("area", "statement", "code"),
    [
        ("tables", 'DROP TABLE "order"', "table-missing"),
        ("tables", 'ALTER TABLE "order" RENAME TO o; CREATE VIEW "order" AS SELECT * FROM o', "table-unfit"),
        ("tables", 'ALTER TABLE "order" DROP CONSTRAINT order_pkey', "table-unfit"),
        ("tables", "DROP TABLE signalbus_parked", "parked-table"),
        ("bloat", 'ALTER TABLE "order" RESET (autovacuum_vacuum_scale_factor)', "autovacuum-unfit"),
        ("bloat", 'ALTER TABLE "order" SET (autovacuum_enabled = false)', "autovacuum-unfit"),
        ("doorbell", 'DROP TRIGGER signalbus_doorbell ON "order"', "doorbell-unfit"),
        ("doorbell", 'ALTER TABLE "order" DISABLE TRIGGER signalbus_doorbell', "doorbell-unfit"),
    ],
)
def test_what_is_broken_in_a_table_is_found(checked: Checked, area: str, statement: str, code: str) -> None:
    checked.execute(AUTOVACUUM)
    assert checked.codes(area) == {"area-fine"}
    checked.execute(*statement.split("; "))
    assert checked.codes(area) == {code}


@pytest.fixture
def login(checked: Checked) -> Iterator[Callable[..., Checked]]:
    """Gives the same application, with a login of its own that has no more than what is granted."""
    name = f"relay_{uuid.uuid4().hex[:8]}"
    checked.execute(f"CREATE ROLE {name} LOGIN")

    def of(*statements: str, schema: str = "") -> Checked:
        checked.execute(*(statement.format(name=name) for statement in statements))
        url = sa.make_url(checked.app.config["SQLALCHEMY_DATABASE_URI"]).set(username=name)
        other = Checked(url.render_as_string(hide_password=False), checked.app.config["SIGNALBUS_RABBITMQ_URL"])
        other.order.__table__.schema = schema or None
        return other

    yield of
    checked.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_missing_privileges_are_named(login: Callable[..., Checked]) -> None:
    poor = login('GRANT SELECT ON "order" TO {name}', "GRANT ALL ON signalbus_parked TO {name}")
    [finding] = [finding for finding in poor.find("tables") if finding.code == "privilege-missing"]
    assert finding.remedy.startswith('GRANT DELETE, UPDATE ON "order"')


def test_update_of_one_column_is_enough_to_lock_rows(login: Callable[..., Checked]) -> None:
    rich = login('GRANT SELECT, DELETE, UPDATE (body) ON "order" TO {name}', "GRANT ALL ON signalbus_parked TO {name}")
    assert rich.codes("tables") == {"area-fine"}
    rich = login("ALTER ROLE {name} RESET ALL")
    with sa.create_engine(rich.app.config["SQLALCHEMY_DATABASE_URI"]).begin() as connection:
        connection.exec_driver_sql('SELECT FROM "order" FOR UPDATE SKIP LOCKED')


def test_a_schema_that_is_closed_is_told(login: Callable[..., Checked]) -> None:
    closed = login("CREATE SCHEMA sales", 'ALTER TABLE "order" SET SCHEMA sales', schema="sales")
    assert "schema-usage-missing" in closed.codes("tables")


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("default_transaction_read_only = on", "database-read-only"),
        ("synchronous_commit = off", "synchronous-commit-off"),
        ("statement_timeout = '2s'", "timeout-overridden"),
        ("idle_session_timeout = '20s'", "timeout-too-short"),
    ],
)
def test_what_the_login_is_set_to_is_found(login: Callable[..., Checked], setting: str, code: str) -> None:
    assert code in login("ALTER ROLE {name} SET " + setting).codes("session")


def test_a_login_with_too_few_connections_is_found(login: Callable[..., Checked]) -> None:
    assert "connections-too-few" in login("ALTER ROLE {name} CONNECTION LIMIT 3").codes("session")


def test_an_engine_in_autocommit_is_found(checked: Checked) -> None:
    url = checked.app.config["SQLALCHEMY_DATABASE_URI"]
    assert "isolation-autocommit" not in checked.codes("session")
    assert "isolation-autocommit" in Checked(url, "amqp://nowhere/", isolation_level="AUTOCOMMIT").codes("session")


def test_what_holds_the_horizon_is_named(checked: Checked) -> None:
    with checked.app.app_context(), checked.db.engine.connect() as holder, checked.db.engine.connect() as connection:
        holder.execution_options(isolation_level="REPEATABLE READ").exec_driver_sql("SELECT count(*) FROM pg_class")
        found = list(check_bloat(connection, checked.db.signalbus.specs(), held_seconds=0.0))
        pid = holder.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        assert any(f.code == "horizon-held" and f"pid {pid}" in f.subject for f in found)


def test_a_server_that_is_durable_and_direct_is_fine_and_pgbouncer_is_seen(away: str) -> None:
    with PrivatePostgres(fsync=True) as server:
        checked = Checked(server.start().create_database(), away)
        checked.create()
        assert checked.codes("session") == {"area-fine"}
        with PrivatePgBouncer(server) as bouncer:
            url = bouncer.start().in_front_of(checked.app.config["SQLALCHEMY_DATABASE_URI"])
            assert "pooler-transaction-mode" in Checked(url, away).codes("session")
        with PrivatePgBouncer(server, settings=["pool_mode = statement"]) as bouncer:
            url = bouncer.start().in_front_of(checked.app.config["SQLALCHEMY_DATABASE_URI"])
            assert "pooler-statement-mode" in Checked(url, away).codes("session")


def test_servers_that_are_away_are_one_error_for_each_area(away: str) -> None:
    checked = Checked(f"postgresql+psycopg2://someone:geheim@127.0.0.1:{free_port()}/none", away)
    found = [f for f in checked.find("tables", "session", "bloat", "doorbell", "broker") if f.level == "error"]
    assert [(f.area, f.code) for f in found] == [
        ("tables", "area-unreachable"),
        ("session", "database-unreachable"),
        ("bloat", "area-unreachable"),
        ("doorbell", "area-unreachable"),
        ("broker", "broker-unreachable"),
    ]
    assert "geheim" not in "".join(map(as_json, found))


def test_fsync_off_is_found(postgres: object, checked: Checked) -> None:
    if not isinstance(postgres, PrivatePostgres):
        pytest.skip("needs a server whose settings are known")
    assert "fsync-off" in checked.codes("session")


@pytest.fixture
def sending(database_url: str, broker: Broker) -> Callable[..., Checked]:
    def of(exchange: str, *bodies: str) -> Checked:
        checked = Checked(database_url, broker.url, exchange)
        checked.create()
        for body in bodies:
            checked.execute(f"INSERT INTO \"order\" (body) VALUES ('{body}')")
        return checked

    return of


def test_a_route_is_proved_by_a_probe_alone(sending: Callable[..., Checked], broker: Broker) -> None:
    exchange = broker.exchange()
    queue = broker.queue(exchange, "wanted")
    checked = sending(exchange)
    assert "route-unproved" in checked.codes("broker")
    assert broker.take_all(queue) == []
    assert "route-missing" not in checked.codes("broker", send_probe=True)
    [message] = broker.take_all(queue) or [None]
    assert message is None or (message.body, message.properties.type) == (b"", "signalbus.check")
    broker.unbind(queue, exchange, "wanted")
    assert "route-missing" in checked.codes("broker", send_probe=True)


def test_a_look_reaches_no_queue_even_when_all_messages_are_wanted(
    sending: Callable[..., Checked], broker: Broker
) -> None:
    exchange = broker.exchange("fanout")
    queue = broker.queue(exchange)
    assert {"exchange-refused", "exchange-missing"}.isdisjoint(sending(exchange).codes("broker"))
    assert broker.count(queue) == 0


def test_the_keys_of_pending_signals_are_looked_at(sending: Callable[..., Checked], broker: Broker) -> None:
    queue = broker.queue()
    assert "queue-missing" in sending("", "no-such-queue").codes("broker")
    checked = sending("")
    checked.execute(f"UPDATE \"order\" SET body = '{queue}'")
    assert "queue-missing" not in checked.codes("broker")
    assert broker.count(queue) == 0


def test_missing_and_internal_exchanges_are_told_apart(sending: Callable[..., Checked], broker: Broker) -> None:
    assert "exchange-missing" in sending("no-such-exchange").codes("broker")
    assert "exchange-refused" in sending(broker.exchange(internal=True)).codes("broker")


def test_a_pending_signal_without_a_message_is_told_and_its_payload_is_not(sending: Callable[..., Checked]) -> None:
    found = sending("", "bad card 4711-0815").find("broker")
    assert "message-fails" in {finding.code for finding in found}
    assert "4711" not in "".join(map(as_json, found))


def test_a_refused_login_and_a_missing_virtual_host_are_told(database_url: str, amqp_url: str) -> None:
    wrong = amqp_url.replace(":guest@", ":geheim@")
    assert "broker-login" in Checked(database_url, wrong).codes("broker")
    assert "broker-vhost" in Checked(database_url, amqp_url.rsplit("/", 1)[0] + "/no-such-host").codes("broker")


def test_an_alarm_in_force_is_told(database_url: str, private_rabbitmq: PrivateRabbitMQ) -> None:
    private_rabbitmq.block_publishers()
    assert "broker-blocked" in Checked(database_url, private_rabbitmq.url, "").codes("broker")


SHOP = """
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import RabbitMQSignal

class Database(SignalBusMixin, SQLAlchemy):
    pass

db = Database()

class Order(RabbitMQSignal, db.Model):
    id = db.Column(db.Integer, primary_key=True)
    def signalbus_message(self): ...

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://someone:geheim@127.0.0.1:1/none"
app.config["SIGNALBUS_RABBITMQ_URL"] = "amqp://someone:geheim@127.0.0.1:1/"
db.init_app(app)
"""


def run(tmp_path: Any, source: str, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    name = f"shop_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(source)
    done = CliRunner().invoke(
        cli, ["check", "--app", str(tmp_path / f"{name}.py"), "--json", *arguments], obj={}, catch_exceptions=False
    )
    assert "geheim" not in done.output
    return done.exit_code, [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]


def test_configuration_and_models_are_checked_without_servers(tmp_path: Any) -> None:
    code, found = run(tmp_path, SHOP, "--only", "config", "--only", "models")
    assert (code, [one["code"] for one in found]) == (0, ["area-fine", "area-fine"])


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("+psycopg2://", "://", "uri-driver"),
        ("postgresql+psycopg2://", "postgres://", "app-not-loaded"),
        ("postgresql+psycopg2://someone:geheim@127.0.0.1:1/none", "sqlite://", "driver-unsupported"),
        ("    def signalbus_message(self): ...", "", "message-undefined"),
        ("(RabbitMQSignal, db.Model)", "(db.Model)", "app-without-models"),
        ("    id =", "    signalbus_burst_count = 0\n    id =", "model-contract"),
        ("amqp://", "http://", "broker-url"),
    ],
)
def test_what_is_wrong_in_the_application_is_found(tmp_path: Any, old: str, new: str, code: str) -> None:
    assert old in SHOP
    exit_code, found = run(tmp_path, SHOP.replace(old, new), "--only", "config", "--only", "models", "--strict")
    assert exit_code == 1
    assert code in {one["code"] for one in found} or (code == "uri-driver" and found[0]["code"] == "app-not-loaded")


def test_a_command_without_an_application_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["check"], obj={}).exit_code == 2
    assert CliRunner().invoke(cli, ["check", "--only", "nonsense"], obj={}).exit_code == 2
