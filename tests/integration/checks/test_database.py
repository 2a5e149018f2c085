"""What check finds in a database, made real: each time one thing is broken."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from relay.checks import versions
from relay.checks.signals import check_signals, state_findings
from relay.checks.vacuum import check_bloat
from relay.commands.check import as_json
from relay.telemetry.states import ModelFacts, state_of
from signalbus_core.lowlevel import paused
from signalbus_core.rabbitmq import RabbitMQSignal
from tests.support.checked import Checked
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.programs import free_port
from tests.support.servers import Postgres

OURS = "GRANT ALL ON signalbus_parked, signalbus_paused TO {name}"
AUTOVACUUM = 'ALTER TABLE "order" SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)'


@pytest.fixture
def away() -> str:
    return f"amqp://someone:geheim@127.0.0.1:{free_port()}/"


@pytest.fixture
def checked(database_url: str, away: str) -> Checked:
    """With its tables, and a broker that is away."""
    return Checked(database_url, away).create()


def test_a_database_as_it_should_be_is_fine(checked: Checked) -> None:
    checked.execute(AUTOVACUUM)
    assert checked.codes("config", "models", "tables", "signals", "bloat", "doorbell") == {"area-fine"}


@pytest.mark.parametrize(
    ("area", "statement", "code"),
    [
        ("tables", 'DROP TABLE "order"', "table-missing"),
        ("tables", 'ALTER TABLE "order" RENAME TO o; CREATE VIEW "order" AS SELECT * FROM o', "table-unfit"),
        ("tables", 'ALTER TABLE "order" DROP CONSTRAINT order_pkey', "table-unfit"),
        ("tables", 'ALTER TABLE "order" DROP COLUMN body', "table-unfit"),
        ("tables", 'CREATE TABLE eu () INHERITS ("order")', "table-unfit"),
        ("tables", 'ALTER TABLE "order" SET UNLOGGED', "table-unlogged"),
        ("tables", 'CREATE TABLE note (order_id int REFERENCES "order")', "table-referenced"),
        ("tables", "DROP TABLE signalbus_parked", "parked-table"),
        ("tables", "ALTER TABLE signalbus_parked DROP COLUMN row_version", "parked-table-old"),
        ("tables", "DROP TABLE signalbus_paused", "paused-table"),
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


def test_a_table_without_column_of_its_ids_is_found_with_recipe(checked: Checked) -> None:
    checked.execute('ALTER TABLE "order" DROP COLUMN signalbus_id')
    [finding] = [one for one in checked.find("tables") if one.code == "table-unfit"]
    recipe = finding.remedy.partition("its code: ")[2].partition(". Or ")[0]
    checked.execute(*recipe.split("; "))
    assert checked.codes("tables") == {"area-fine"}


def test_models_whose_ids_may_come_again_are_found(database_url: str, away: str) -> None:
    checked = Checked(database_url, away)
    members = {"signalbus_id": None, "signalbus_message": lambda _signal: None}
    timed = {"created_at": checked.db.Column(sa.DateTime(timezone=True))}
    models = [
        type(name, (RabbitMQSignal, checked.db.Model), {"id": checked.db.Column(sa.Integer, primary_key=True), **extra})
        for name, extra in (("Bare", members), ("Timed", members | timed), ("Own", {"signalbus_message": len}))
    ]
    checked.create()
    findings = [one for one in checked.find("models") if one.code == "signal-id-missing"]
    assert [one.subject for one in findings] == ["Bare", "Timed"]
    assert "microsecond" in findings[1].problem
    assert "ADD COLUMN IF NOT EXISTS signalbus_id uuid" in findings[0].remedy
    assert len(models) == 3


def test_an_index_in_another_order_than_the_key_is_found(checked: Checked) -> None:
    class Visit(RabbitMQSignal, checked.db.Model):  # type: ignore[name-defined]
        shop = sa.Column(sa.Integer, primary_key=True)
        number = sa.Column(sa.Integer, primary_key=True)

    checked.execute("CREATE TABLE visit (shop int, number int, signalbus_id uuid, PRIMARY KEY (number, shop))")
    assert checked.codes("tables") == {"index-order"}
    checked.execute("CREATE INDEX ON visit (shop, number)")
    assert checked.codes("tables") == {"area-fine"}


def test_without_bells_to_be_rung_nothing_is_missed(checked: Checked) -> None:
    checked.execute('DROP TRIGGER signalbus_doorbell ON "order"')
    assert checked.codes("doorbell", doorbell="off") == {"doorbell-off", "area-fine"}
    checked.order.signalbus_doorbell = False
    assert checked.codes("doorbell") == {"area-fine"}


def test_signals_that_wait_are_told(checked: Checked) -> None:
    columns = "table_name, key, model, attempts, first_failed_at, last_failed_at, next_try_at, error_class, error_text"
    row = f"INSERT INTO signalbus_parked ({columns}) VALUES ('order', '%s', 'Order', 1, now(), now(), %s, 'error', 'x')"
    checked.execute('INSERT INTO "order" (id) VALUES (1), (2), (3)')
    assert checked.codes("signals") == {"area-fine"}
    checked.execute(row % (1, "now()"))
    assert checked.codes("signals") == {"signals-waiting"}
    checked.execute(row % (2, "NULL"))
    # Two of three have failed.
    assert checked.codes("signals") == {"signals-waiting", "signals-parked", "model-failing"}


def test_keys_that_python_cannot_hold_are_told(checked: Checked) -> None:
    class Moment(RabbitMQSignal, checked.db.Model):  # type: ignore[name-defined]
        at = sa.Column(sa.DateTime(timezone=True), primary_key=True)

    checked.execute(
        "CREATE TABLE moment (at timestamptz PRIMARY KEY, signalbus_id uuid)",
        "INSERT INTO moment VALUES ('9999-12-31')",
    )
    assert checked.codes("signals") == {"area-fine"}
    checked.execute("INSERT INTO moment VALUES ('infinity')")
    assert checked.codes("signals") == {"key-unloadable"}


def test_a_paused_model_is_told_with_the_reason(checked: Checked) -> None:
    with checked.app.app_context(), checked.db.engine.begin() as connection:
        paused.pause(connection, checked.db.signalbus.specs()[0], "until Monday")
    [finding] = checked.find("signals")
    assert (finding.code, finding.subject) == ("model-paused", "Order")
    assert "until Monday" in finding.problem


def test_a_locked_table_is_told_with_the_pid_of_its_holder(checked: Checked) -> None:
    checked.execute("INSERT INTO \"order\" (body) VALUES ('a')")
    with sa.create_engine(checked.database_url).begin() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        connection.exec_driver_sql('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE')
        found = {area: checked.find(area) for area in ("signals", "tables")}
    for findings in found.values():
        [blocked] = [finding for finding in findings if finding.level == "error"]
        assert (blocked.code, blocked.subject) == ("model-blocked", "Order")
        assert f"pg_terminate_backend({pid})" in blocked.remedy


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        (ModelFacts(backlog=3, waiting=3), ["model-failing"]),
        (ModelFacts(backlog=3, lag_seconds=61.0), ["model-behind"]),
        (ModelFacts(backlog=3, lag_seconds=1.0), []),
        (ModelFacts(backlog=0), []),
    ],
)
def test_a_model_that_fails_or_is_behind_is_told(facts: ModelFacts, codes: list[str]) -> None:
    assert [finding.code for finding in state_findings("Order", state_of(facts))] == codes


def test_a_backlog_is_told(checked: Checked) -> None:
    checked.execute('INSERT INTO "order" SELECT generate_series(1, 3)')
    with checked.app.app_context(), checked.db.engine.connect() as connection:
        specs = checked.db.signalbus.specs()
        assert [finding.code for finding in check_signals(connection, specs, most_pending=3)] == ["backlog-high"]
        assert list(check_signals(connection, specs, most_pending=4)) == []


@pytest.fixture
def login(checked: Checked) -> Iterator[Callable[..., Checked]]:
    """Gives the same application, with a login of its own that has no more than what is granted."""
    name = f"relay_{uuid.uuid4().hex[:8]}"
    checked.execute(f"CREATE ROLE {name} LOGIN")

    def of(*statements: str, schema: str = "") -> Checked:
        checked.execute(*(statement.format(name=name) for statement in statements))
        url = sa.make_url(checked.database_url).set(username=name)
        other = Checked(url.render_as_string(hide_password=False), checked.amqp_url)
        other.order.__table__.schema = schema or None
        return other

    yield of
    checked.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_missing_privileges_are_named(login: Callable[..., Checked]) -> None:
    poor = login('GRANT SELECT ON "order" TO {name}', OURS)
    [finding] = [finding for finding in poor.find("tables") if finding.code == "privilege-missing"]
    assert finding.remedy.startswith('GRANT DELETE, UPDATE ON "order"')


def test_missing_privileges_on_our_own_tables_are_named(login: Callable[..., Checked]) -> None:
    own = "GRANT {parked} ON signalbus_parked TO {{name}}; GRANT {paused} ON signalbus_paused TO {{name}}"
    poor = login('GRANT ALL ON "order" TO {name}', *own.format(parked="SELECT, DELETE", paused="SELECT").split("; "))
    assert {finding.code: finding.remedy for finding in poor.find("tables")} == {
        "parked-table": "GRANT INSERT, UPDATE ON signalbus_parked to the relay's login.",
        "paused-table": "GRANT INSERT, DELETE ON signalbus_paused to the relay's login.",
    }
    enough = login(*own.format(parked="INSERT, UPDATE", paused="INSERT, DELETE").split("; "))
    assert enough.codes("tables") == {"area-fine"}


def test_update_of_one_column_is_enough_to_lock_rows(login: Callable[..., Checked]) -> None:
    rich = login('GRANT SELECT, DELETE, UPDATE (body) ON "order" TO {name}', OURS)
    assert rich.codes("tables") == {"area-fine"}
    rich.execute('SELECT FROM "order" FOR UPDATE SKIP LOCKED')


def test_rows_that_may_be_hidden_are_told(login: Callable[..., Checked]) -> None:
    rich = login('GRANT ALL ON "order" TO {name}', 'ALTER TABLE "order" ENABLE ROW LEVEL SECURITY', OURS)
    assert rich.codes("tables") == {"row-security"}


def test_a_schema_that_is_closed_is_told(login: Callable[..., Checked]) -> None:
    closed = login("CREATE SCHEMA sales", 'ALTER TABLE "order" SET SCHEMA sales', schema="sales")
    assert "schema-usage-missing" in closed.codes("tables")


def test_an_area_that_cannot_be_looked_at_hides_no_other(login: Callable[..., Checked], checked: Checked) -> None:
    barred = login("REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC", 'GRANT ALL ON "order" TO {name}')
    assert barred.codes("tables", "doorbell") == {"parked-table", "paused-table", "area-failed"}


@pytest.mark.parametrize(
    ("setting", "code"),
    [
        ("default_transaction_read_only = on", "database-read-only"),
        ("default_transaction_isolation = 'repeatable read'", "isolation-overridden"),
        ("synchronous_commit = off", "synchronous-commit-off"),
        ("statement_timeout = '2s'", "timeout-overridden"),
        ("idle_session_timeout = '20s'", "timeout-too-short"),
    ],
)
def test_what_the_login_is_set_to_is_found(login: Callable[..., Checked], setting: str, code: str) -> None:
    assert code in login("ALTER ROLE {name} SET " + setting).codes("session")


def test_a_login_with_too_few_connections_is_found(login: Callable[..., Checked]) -> None:
    few = login("ALTER ROLE {name} CONNECTION LIMIT 5")
    assert "connections-too-few" in few.codes("session")
    assert "connections-too-few" not in few.codes("session", workers="1")


def test_a_pool_with_too_few_connections_is_found(checked: Checked) -> None:
    small = Checked(checked.database_url, checked.amqp_url, pool_size=2, max_overflow=1)
    assert small.codes("config") == {"pool-too-small"}
    assert small.codes("config", workers="1") == {"area-fine"}
    assert Checked(checked.database_url, checked.amqp_url, pool_size=0).codes("config", workers="64") == {"area-fine"}


def test_an_engine_in_autocommit_is_found(checked: Checked) -> None:
    assert "isolation-autocommit" not in checked.codes("session")
    autocommit = Checked(checked.database_url, checked.amqp_url, isolation_level="AUTOCOMMIT")
    assert "isolation-autocommit" in autocommit.codes("session")


def test_what_holds_the_horizon_is_named(checked: Checked) -> None:
    with checked.app.app_context(), checked.db.engine.connect() as holder, checked.db.engine.connect() as connection:
        holder.execution_options(isolation_level="REPEATABLE READ").exec_driver_sql("SELECT count(*) FROM pg_class")
        pid = holder.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        specs = checked.db.signalbus.specs()
        found = [finding for finding in check_bloat(connection, specs, held_seconds=0.0) if str(pid) in finding.subject]
        assert [finding.code for finding in found] == ["horizon-held"]
        assert not any(finding.code == "horizon-held" for finding in check_bloat(connection, specs))


def test_durability_poolers_and_standbys_are_told(away: str) -> None:
    with PrivatePostgres(fsync=True) as server:
        checked = Checked(server.start().create_database(), away).create()
        assert checked.codes("session") == {"area-fine"}
        with PrivatePgBouncer(server) as bouncer:
            pooled = Checked(bouncer.start().in_front_of(checked.database_url), away)
            assert pooled.codes("session", "tables") == {"pooler-transaction-mode", "area-fine"}
            assert pooled.codes("doorbell") == {"doorbell-undeliverable"}
        with PrivatePgBouncer(server, pool_size=9, settings=["pool_mode = session"]) as bouncer:
            pooled = Checked(bouncer.start().in_front_of(checked.database_url), away)
            assert pooled.codes("session") == {"area-fine"}
        with PrivatePgBouncer(server, settings=["pool_mode = statement"]) as bouncer:
            pooled = Checked(bouncer.start().in_front_of(checked.database_url), away)
            assert pooled.codes("session") == {"pooler-statement-mode", "database-unreachable"}
        server.stop()
        (server.directory / "data" / "standby.signal").touch()
        server.start()
        assert checked.codes("session") == {"database-standby"}


def test_fsync_off_is_found(postgres: Postgres, checked: Checked) -> None:
    if not isinstance(postgres, PrivatePostgres):
        pytest.skip("needs a server whose settings are known")
    assert "fsync-off" in checked.codes("session")


def test_the_version_of_the_server_is_judged(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "postgresql-too-old" not in checked.codes("versions")
    monkeypatch.setattr(versions, "OLDEST_POSTGRESQL", 99)
    assert "postgresql-too-old" in checked.codes("versions")


def test_servers_that_are_away_are_one_error_each(away: str) -> None:
    checked = Checked(f"postgresql+psycopg2://someone:geheim@127.0.0.1:{free_port()}/none", away)
    found = [f for f in checked.find("tables", "session", "bloat", "doorbell", "broker") if f.level == "error"]
    assert [(f.area, f.code) for f in found] == [
        ("session", "database-unreachable"),
        ("broker", "broker-unreachable"),
    ]
    assert found[0].problem.endswith("; not checked therefore: tables, bloat, doorbell")
    assert "geheim" not in "".join(map(as_json, found))
