from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa

from tests.support.processes import RelayProcess
from tests.support.waiting import eventually

APPLICATION = """
import os
from pathlib import Path
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin

class Database(SignalBusMixin, SQLAlchemy):
    pass

db = Database()

class Order(db.Model):
    signalbus_burst_count = 50
    id = db.Column(db.Integer, primary_key=True)
    note = db.Column(db.Text)

    def send_signalbus_message(self):
        Order.send_signalbus_messages([self])

    @classmethod
    def send_signalbus_messages(cls, signals):
        with open("sent", "a") as file:
            for signal in signals:
                if signal.note == "away":
                    raise ConnectionRefusedError("nothing listens there")
                if signal.note == "file":
                    raise FileNotFoundError("no such attachment")
                file.write(f"{signal.id}\\n")
                file.flush()

def create_app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["TEST_DATABASE_URL"]
    db.init_app(app)
    with app.app_context():
        db.create_all()
    return app
"""


def prepare(tmp_path: Path, database_url: str) -> sa.Engine:
    (tmp_path / "outbox.py").write_text(APPLICATION)
    return sa.create_engine(database_url)


def run(engine: sa.Engine, statement: str) -> int:
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return int(result.scalar() or 0) if result.returns_rows else 0


def test_until_empty_does_not_call_a_table_empty_that_is_not(tmp_path: Path, database_url: str) -> None:
    engine = prepare(tmp_path, database_url)
    run(engine, 'CREATE TABLE "order" (id serial PRIMARY KEY, note text)')
    run(engine, """INSERT INTO "order" (note) VALUES ('away')""")
    with RelayProcess(
        tmp_path, "--app", "outbox:create_app", "--until-empty", environ={"TEST_DATABASE_URL": database_url}
    ) as relay:
        exit_code = relay.wait(60)
        left = run(engine, 'SELECT count(*) FROM "order"')
        output = relay.output
    engine.dispose()
    assert left == 1
    assert exit_code != 0, output


def test_a_signal_whose_send_method_raises_an_oserror_for_its_own_sake_repeats_nothing_and_warns_once_a_minute(
    tmp_path: Path, database_url: str
) -> None:
    engine = prepare(tmp_path, database_url)
    run(engine, 'CREATE TABLE "order" (id serial PRIMARY KEY, note text)')
    run(engine, """INSERT INTO "order" (note) VALUES ('good'), ('file')""")
    with RelayProcess(tmp_path, "--app", "outbox:create_app", environ={"TEST_DATABASE_URL": database_url}) as relay:
        relay.wait_for_log("started")
        for _ in range(50):
            # Lower keys than the bad one, as UUIDs have; 10 a second.
            for _ in range(10):
                run(
                    engine,
                    """INSERT INTO "order" (id, note) SELECT -count(*) - 1 - (random() * 1e8)::int, 'good' FROM "order" """,
                )
                threading.Event().wait(0.1)
        run(engine, """UPDATE "order" SET note = 'good'""")
        eventually(lambda: run(engine, 'SELECT count(*) FROM "order"') == 0, 60, "empty")
        warnings = [
            line for line in relay.logs() if line["level"] == "WARNING" and line.get("action") == "model_failing"
        ]
        times = [line["time"] for line in warnings]
    engine.dispose()
    sent = (tmp_path / "sent").read_text().split()
    repeated = len(sent) - len(set(sent))
    assert (len(times) <= 1, repeated <= 50) == (True, True), f"{times}, {repeated} repeated of {len(set(sent))}"
