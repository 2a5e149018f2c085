"""Which table the relays of an application share, and over which connection."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial

from signalbus_core.lowlevel import RELAYS, SignalSpec

from ..application.databases import DRIVERS, engine_of_its_own
from ..application.load import LoadedApp
from ..config.resolve import RelayConfig
from ..listeners import Listeners
from ..servers.reconnect import Servers
from .replica import OwnReport
from .thread import Place, Replicas


def build_replicas(loaded: LoadedApp, config: RelayConfig, listeners: Listeners, servers: Servers) -> Replicas:
    """This relay among the others. Only a relay whose page can be seen tells of itself and reads of others."""
    own = OwnReport(listeners.status, listeners.health, listeners.incidents)
    is_shown = config.http is not None and not config.until_empty
    return Replicas(own, _place(loaded, servers) if is_shown else None)


def _place(loaded: LoadedApp, servers: Servers) -> Place | None:
    """The database of the application's first model: the same for relays that send different ones of its models."""
    with loaded.app.app_context():
        specs = loaded.bus.specs()
        spec = specs[0]
        engine = loaded.bus.db.engines[spec.bind_key]
    if engine.dialect.driver not in DRIVERS:
        return None
    database_problem = partial(servers.problem, spec.bind_key)
    return Place(engine_of_its_own(engine), RELAYS.of(spec), application_of(specs), database_problem)


def application_of(specs: Iterable[SignalSpec]) -> str:
    """What tells the relays of one application from those of another in the same database: the tables of its models."""
    tables = sorted(f"{spec.bind_key or ''}:{spec.table.fullname}" for spec in specs)
    return hashlib.sha256("\n".join(tables).encode()).hexdigest()[:16]
