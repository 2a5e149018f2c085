"""A row for which the condition of its model, as that of ``--where``, cannot be evaluated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.application.databases import Databases
from relay.application.load import LoadedApp
from relay.checks.signals import check_signals
from relay.exit_codes import CommandError
from relay.explain.gather import gather
from relay.operations.backlog import LIMITS, Backlogs
from relay.poller.backlog_meter import MEASURE_EVERY_SECONDS
from relay.poller.database import PolledDatabase
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.worker.model_state import ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from signalbus_core import SignalBusMixin
from signalbus_core.lowlevel import BurstLimits, SignalSpec, find_faulty_row
from signalbus_core.sql.diagnosis.faulty_row import ROWS_AT_ONCE
from tests.support.clock import Clock
from tests.support.recorder import Recorder

WHY = "--where cannot be evaluated for the row with key "


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Chosen:
    """A model whose rows are sent if a division by one of their columns says so, and its poller."""

    def __init__(self, url: str, key: type[sa.types.TypeEngine[object]]) -> None:
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        db = Database(app)
        members = {
            "id": db.Column(key, primary_key=True),
            "part": db.Column(sa.Text, primary_key=True, server_default="a"),
            "amount": db.Column(db.Integer),
            "signalbus_condition": "10 / amount > 0",
            "send_signalbus_message": lambda self: None,
        }
        self.model = type("Order", (db.Model,), members)
        self.clock = Clock(1000.0)
        self.recorder = Recorder(["Order"], self.clock)
        with app.app_context():
            db.create_all()
            self.engine = db.engine
            specs = db.signalbus.specs()
        self.spec: SignalSpec = specs[0]
        runtime, scheduler = self.recorder.runtime, Scheduler(["Order"], clock=self.clock)
        stores = RetryStores(specs, {None: self.engine}, RetryPolicy(), BurstLimits(), self.clock)
        parts = (stores, PausedModels(scheduler, runtime), scheduler, runtime)
        self.poller = Poller(PolledDatabase(None, self.engine, specs), {"Order": ModelState(self.spec)}, *parts)
        self.databases = Databases(LoadedApp(app, db.signalbus), LIMITS)

    def write(self, first: int, last: int, amount: str) -> None:
        with self.engine.begin() as connection:
            rows = f"SELECT n, {amount} FROM generate_series({first}, {last}) n"
            connection.exec_driver_sql(f'INSERT INTO "order" (id, amount) {rows}')

    @property
    def reason(self) -> str | None:
        """Why the relay sends nothing of the model."""
        stuck = self.recorder.health.stuck("Order")
        return stuck and stuck.reason


@pytest.fixture(params=[sa.Integer, sa.Text])
def chosen(database_url: str, request: pytest.FixtureRequest) -> Iterator[Chosen]:
    chosen = Chosen(database_url, request.param)
    yield chosen
    chosen.engine.dispose()


def test_row_whose_condition_fails_is_named_wherever_its_table_is_told(chosen: Chosen) -> None:
    chosen.write(1, 5, "CASE n WHEN 4 THEN 0 ELSE 1 END")
    for _ in range(3):
        chosen.clock.now += MEASURE_EVERY_SECONDS / 2
        chosen.poller.run_once()
        assert chosen.reason is not None, "not only in the polls that measure"
    assert chosen.reason.startswith(f'{WHY}["4", "a"] (DataError: division by zero)')
    [backlog] = Backlogs(chosen.databases).measure()
    assert (backlog.state, backlog.reason) == ("blocked", chosen.reason)
    assert backlog.to_do is not None
    assert "CASE WHEN" in backlog.to_do
    with chosen.engine.connect() as connection:
        [finding] = check_signals(connection, [chosen.spec])
    assert (finding.code, finding.problem, finding.remedy) == ("condition-fails", chosen.reason, backlog.to_do)
    with pytest.raises(CommandError, match="row with key") as caught:
        gather(chosen.databases, chosen.spec, '["4", "a"]')
    assert backlog.to_do in str(caught.value)

    with chosen.engine.begin() as connection:
        connection.exec_driver_sql('UPDATE "order" SET amount = 2')
    chosen.clock.now += MEASURE_EVERY_SECONDS
    assert chosen.poller.run_once()
    assert chosen.reason is None


def test_faulty_row_is_found_behind_many_others_and_tried_first_then(chosen: Chosen) -> None:
    last = 2 * ROWS_AT_ONCE + 17
    chosen.write(1, last, f"CASE WHEN n IN ({last}, {last - 3}) THEN 0 ELSE 1 END")
    with chosen.engine.connect() as connection:
        row = find_faulty_row(connection, chosen.spec)
        assert row is not None
        assert int(row.key[0]) in (last, last - 3)
        assert find_faulty_row(connection, chosen.spec, row.key) is not None
        connection.exec_driver_sql('UPDATE "order" SET amount = 1')
        assert find_faulty_row(connection, chosen.spec, row.key) is None
