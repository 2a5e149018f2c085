"""How old signals are, as the database tells."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.backlogs import Backlogs
from relay.loading import LoadedApp
from signalbus_core import SignalBusMixin
from tests.support.postgres import PrivatePostgres


class Database(SignalBusMixin, SQLAlchemy):
    pass


@pytest.fixture(scope="module")
def timing_postgres() -> Iterator[PrivatePostgres]:
    with PrivatePostgres(settings=["track_commit_timestamp=on"]) as server:
        yield server.start()


def age(url: str) -> float | None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = Database(app)
    members = {"id": db.Column(sa.Integer, primary_key=True), "send_signalbus_message": lambda self: None}
    model = type("Order", (db.Model,), members)
    with app.app_context():
        db.create_all()
        db.session.add(model(id=1))
        db.session.commit()
        # A transaction that only takes locks changes no row's time.
        db.session.execute(sa.select(model).with_for_update())
        db.session.commit()
    [found] = Backlogs(LoadedApp(app, db.signalbus)).measure()
    assert found.signals == 1
    with app.app_context():
        db.engine.dispose()
    return found.oldest_age_seconds


def test_times_of_commits_tell_the_age_where_the_server_keeps_them(timing_postgres: PrivatePostgres) -> None:
    seconds = age(timing_postgres.create_database())
    assert seconds is not None
    assert 0 < seconds < 60


def test_without_them_nothing_tells_the_age_of_a_model_without_a_time(database_url: str) -> None:
    assert age(database_url) is None
