"""The composition root of the HTTP site."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask
from sqlalchemy.engine import Engine

from ..application.databases import Databases, engine_of_its_own, limit_connections
from ..application.load import LoadedApp
from ..config.resolve import RelayConfig
from ..replicas.thread import Replicas
from ..servers.database_url import place_text
from ..telemetry.health import Health
from ..telemetry.incidents import Incidents
from ..telemetry.metrics import Metrics
from ..telemetry.status import Status
from .actions import Operations
from .api_routes import api_routes
from .app import create_app
from .auth import Guard
from .database_bulkhead import LIMITS, DatabaseBulkhead
from .failed_cache import FailedSignalsCache
from .health_routes import health_routes
from .page_routes import page_routes
from .sent_routes import sent_routes
from .status_report import ShownDatabase, StatusReport


def build_site(
    loaded: LoadedApp,
    config: RelayConfig,
    engines: Mapping[str | None, Engine],
    status: Status,
    health: Health,
    metrics: Metrics,
    incidents: Incidents,
    replicas: Replicas | None = None,
) -> Flask:
    """The Flask application of a relay.

    :param engines: the engine of each bind key that the relay's models use.
    :param replicas: this relay and the others; None when it knows of no others.
    """
    is_local = config.http is None or config.http.is_loopback
    guard = Guard(config.operator_token, config.http_hosts, is_local=is_local)
    databases = [_database(key, engine) for key, engine in engines.items()]
    report = StatusReport(status, health, incidents, databases, replicas)
    operations = _operations(loaded, config, engines)
    view = FailedSignalsCache(operations, status)
    blueprints = (
        health_routes(health, metrics, report),
        api_routes(operations, guard),
        sent_routes(operations, guard),
        page_routes(report, view, operations, guard),
    )
    return create_app(blueprints, guard)


def _operations(loaded: LoadedApp, config: RelayConfig, relayed: Mapping[str | None, Engine]) -> Operations:
    """The operator's actions for all models of the application, also those that this relay does not send."""
    with loaded.app.app_context():
        engines = {spec.bind_key: loaded.bus.db.engines[spec.bind_key] for spec in loaded.bus.specs()}
    for bind_key, engine in engines.items():
        if bind_key not in relayed:
            limit_connections(engine)
    own = {bind_key: engine_of_its_own(engine) for bind_key, engine in engines.items()}
    return Operations(Databases(loaded, LIMITS, own), DatabaseBulkhead(own.values()), config.discard_record)


def _database(bind_key: str | None, engine: Engine) -> ShownDatabase:
    thing = "Database" if bind_key is None else f"Database (bind {bind_key!r})"
    return ShownDatabase(bind_key, thing, place_text(engine.url))
