"""Loads the signal models of a base class of SQLAlchemy, for applications without Flask-SQLAlchemy."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import MetaData
from sqlalchemy.orm import registry

from signalbus_core import SignalBus
from signalbus_core.lowlevel import raise_if_stop

from .load import LoadedApp, LoadingError, import_module, module_name, refuse_green_threads
from .own_app import own_database

#: The attribute that is tried when none is given.
USUAL_NAME = "Base"


def load_metadata(location: str, imports: Sequence[str], database_url: str | None, workers: int) -> LoadedApp:
    """Import the models, and build an application with them.

    :param location: ``module:attribute``; the attribute is the base class of the models.
    :param imports: modules that define further models.
    :param workers: how many threads send bursts.
    :raises LoadingError: there is no such class, or no signal model; or the code raises.
    """
    option = f"--metadata {location}"
    models = _registry(location, option)
    for name in imports:
        import_module(name, f"--import {name}")
    refuse_green_threads(option)
    app, db = own_database(database_url, workers)
    db.signalbus = app.extensions["signalbus"] = SignalBus(db, models)
    found = db.signalbus.get_signal_models()
    if not found:
        raise LoadingError(
            f"{option}: no model of this class is a signal model: OutboxMessage, RabbitMQSignal, or one with a method "
            "send_signalbus_message. If they are in a module that is not imported, name it with --import MODULE."
        )
    with app.app_context():
        for spec in db.signalbus.specs():
            if spec.bind_key is not None:
                raise LoadingError(
                    f"{option}: {spec.name} belongs to the bind {spec.bind_key!r} of Flask-SQLAlchemy. Relay such an "
                    "application with --app."
                )
    return LoadedApp(app, db.signalbus)


def _registry(location: str, option: str) -> registry:
    name, _, attribute = location.partition(":")
    module = import_module(module_name(name, option), option)
    attribute = attribute.strip() or USUAL_NAME
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise LoadingError(
                f"{option}: the module {module.__name__!r} has no attribute {attribute!r}. Name the base class of the "
                f"models: --metadata {module.__name__}:BASE."
            ) from None
        except BaseException as error:
            raise_if_stop(error)
            raise LoadingError(f"{option}: reading {attribute} raised {type(error).__name__}.") from error
    if isinstance(found, registry):
        return found
    # SQLModel has it under this name.
    models = getattr(found, "registry", None) or getattr(found, "_sa_registry", None)
    if isinstance(found, type) and isinstance(models, registry):
        return models
    if isinstance(found, MetaData):
        raise LoadingError(
            f"{option}: it is a MetaData, which does not know its models. Name their base class; for tables without "
            "models, use --table."
        )
    raise LoadingError(
        f"{option}: the base class of models is expected, as class Base(DeclarativeBase), not {type(found).__name__}."
    )
