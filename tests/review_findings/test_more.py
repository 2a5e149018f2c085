from __future__ import annotations

import time
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin
from signalbus_core.rabbitmq import Message
from signalbus_core.rabbitmq.confirms import Confirms
from signalbus_core.rabbitmq.delivery import Delivery
from signalbus_core.rabbitmq.silence import SilentDestinations


class LostConnection:
    """A connection that is lost while the broker is waited for."""

    is_open = True
    frame_max = 131072
    suspect_exchanges = {"orders"}
    suspect_messages: set[int] = set()
    verified_exchanges: set[str] = set()

    class location:
        login = "guest"

    def channel_number(self, deadline: float) -> int:
        return 1

    def exchange_exists(self, name: str, deadline: float) -> bool:
        return True

    def send(self, chunks: Any, content_of: Any, deadline: float) -> Any:
        self.is_open = False
        return Confirms(1, len(chunks), content_of), "the connection was lost"

    def abort(self, reason: str) -> None: ...


def test_a_connection_that_is_lost_during_a_lone_message_is_no_answer() -> None:
    now = [0.0]
    silences = SilentDestinations(lambda: now[0])
    silences.was_silent([("orders", "a"), ("orders", "b")])
    silences.answered([("invoices", "c")])
    assert silences.silent_seconds(("orders", "a")) is not None
    now[0] = 10.0  # a trial is due
    delivery = Delivery([[Message("orders", "a", b"x")]], time.monotonic() + 5, silences)
    delivery.run(LostConnection())  # type: ignore[arg-type]
    assert delivery.outcomes()[0][0].kind.value == "unknown"
    assert silences.silent_seconds(("orders", "a")) is not None, "nothing has answered"


class Database(SignalBusMixin, SQLAlchemy):
    pass


def test_flushmany_shows_no_payload_of_a_database_error(database_url: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)

    class Audit(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        text = db.Column(db.Text)

    class Order(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        body = db.Column(db.Text)

        def send_signalbus_message(self) -> None:
            db.session.execute(db.insert(Audit).values(id=1, text=self.body))

    with app.app_context():
        db.create_all()
        db.session.add(Audit(id=1, text=""))
        db.session.add(Order(id=1, body="card 4111111111111111"))
        db.session.commit()
        db.session.remove()
    result = app.test_cli_runner().invoke(args=["signalbus", "flushmany"])
    with app.app_context():
        db.engine.dispose()
    assert "4111111111111111" not in result.output, result.output
