"""Which table the relays of an application share, and over which connection."""

from __future__ import annotations

from signalbus_core.lowlevel import RELAYS

from ..application.databases import DRIVERS, engine_of_its_own
from ..application.load import LoadedApp
from ..config.resolve import RelayConfig
from ..listeners import Listeners
from .replica import OwnReport
from .thread import Place, Replicas


def build_replicas(loaded: LoadedApp, config: RelayConfig, listeners: Listeners) -> Replicas:
    """This relay among the others. Only a relay whose page can be seen tells of itself and reads of others."""
    own = OwnReport(listeners.status, listeners.health, listeners.incidents)
    is_shown = config.http is not None and not config.until_empty
    return Replicas(own, _place(loaded) if is_shown else None)


def _place(loaded: LoadedApp) -> Place | None:
    """The database of the application's first model: the same for relays that send different ones of its models."""
    with loaded.app.app_context():
        spec = loaded.bus.specs()[0]
        engine = loaded.bus.db.engines[spec.bind_key]
    return Place(engine_of_its_own(engine), RELAYS.of(spec)) if engine.dialect.driver in DRIVERS else None
