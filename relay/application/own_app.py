"""The Flask application of a relay that loads none: bursts run in it, and its database is the one that was given."""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import SignalBusMixin

from .databases import APPLICATION_NAME

#: Database connections beside those of the workers.
SPARE_CONNECTIONS = 3


class OwnDatabase(SignalBusMixin, SQLAlchemy):
    """The database that was given."""


def own_database(database_url: str | None, workers: int) -> tuple[Flask, OwnDatabase]:
    """An application, and its database.

    :param workers: how many threads send bursts.
    """
    app = Flask(APPLICATION_NAME)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "pool_size": workers + SPARE_CONNECTIONS,
        "connect_args": {"fallback_application_name": APPLICATION_NAME},
    }
    return app, OwnDatabase(app)
