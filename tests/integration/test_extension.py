"""Wiring the bus into an application."""

from __future__ import annotations

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import AtomicProceduresMixin, SetupError, SignalBus, SignalBusMixin


class Database(SignalBusMixin, SQLAlchemy):
    pass


def new_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///:memory:"
    return app


@pytest.mark.parametrize("late", [False, True])
def test_both_ways_of_set_up_register_bus_and_commands(late: bool) -> None:
    app = new_app()
    if late:
        db = Database()
        db.init_app(app)
    else:
        db = Database(app)
    assert isinstance(db.signalbus, SignalBus)
    assert db.signalbus.db is db
    assert app.extensions["signalbus"] is db.signalbus
    assert set(app.cli.commands["signalbus"].commands) >= {"flushmany", "signals", "pending"}  # type: ignore[attr-defined]


def test_one_extension_serves_several_applications() -> None:
    db = Database()
    for app in (new_app(), new_app()):
        db.init_app(app)
        assert app.extensions["signalbus"] is db.signalbus


def test_a_second_bus_on_one_application_is_an_error() -> None:
    app = new_app()
    Database(app)
    with pytest.raises(SetupError, match="SignalBus already"):
        Database(app)


def test_mixin_after_sqlalchemy_is_error_that_shows_right_order() -> None:
    with pytest.raises(SetupError, match=r"class Wrong\(SignalBusMixin, SQLAlchemy\)"):

        class Wrong(SQLAlchemy, SignalBusMixin):
            pass


def test_the_mixin_on_another_base_is_an_error() -> None:
    class Wrong(SignalBusMixin):
        pass

    with pytest.raises(SetupError, match="SQLAlchemy"):
        Wrong()


@pytest.mark.parametrize(
    "bases", [(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy), (SignalBusMixin, AtomicProceduresMixin, SQLAlchemy)]
)
def test_the_mixins_combine_in_either_order(bases: tuple[type, ...]) -> None:
    app = new_app()
    db = type("Both", bases, {})(app, engine_options={"echo": False})
    with app.app_context():
        assert app.extensions["signalbus"] is db.signalbus
        assert db.execute_atomic(lambda: 1) == 1
