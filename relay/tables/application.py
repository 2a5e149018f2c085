"""An application for outbox tables that have none: made here, from the tables as they are in the database."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import BurstLimits, SignalBusMixin, question

from ..database import limit_connections
from ..loading import LoadedApp, LoadingError
from .facts import find_tables
from .model import make_model
from .plan import plan_all
from .rules import TableRules

#: As it is shown in pg_stat_activity.
APPLICATION_NAME = "signalbus-relay"

#: The key of the models in ``app.extensions``.
MODELS = "signalbus_tables"

#: Time limits of the look at the tables.
LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=5.0, idle_timeout_seconds=10.0)

#: Connections to the database beside those of the workers.
SPARE_CONNECTIONS = 3


class Database(SignalBusMixin, SQLAlchemy):
    """The tables' database."""


def load_tables(database_url: str | None, rules: Sequence[TableRules], workers: int) -> LoadedApp:
    """Find the tables, and make an application whose signal models they are.

    :param workers: how many threads send bursts.
    :raises LoadingError: some of them cannot be relayed; all problems are told.
    :raises sqlalchemy.exc.SQLAlchemyError: the database cannot be asked.
    """
    app = Flask(APPLICATION_NAME)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": workers + SPARE_CONNECTIONS,
        "connect_args": {"fallback_application_name": APPLICATION_NAME},
    }
    db = Database(app)
    with app.app_context():
        limit_connections(db.engine)
        try:
            with question(db.engine, LIMITS) as connection:
                facts = find_tables(connection, [one.name for one in rules])
        except Exception:
            db.engine.dispose()
            raise
        plans = plan_all(facts, rules)
        problems = [problem for plan in plans for problem in plan.problems]
        if problems:
            db.engine.dispose()
            raise LoadingError("\n".join(problems))
        # SQLAlchemy remembers classes weakly; somebody has to hold them.
        app.extensions[MODELS] = [make_model(db, plan) for plan in plans]
    return LoadedApp(app, db.signalbus)
