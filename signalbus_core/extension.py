"""The mixin that gives a Flask-SQLAlchemy extension its signal bus and its commands, and what mixins have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from .bus import SignalBus
from .cli import signalbus_commands
from .errors import SetupError

#: The key in ``app.extensions``.
EXTENSION = "signalbus"


class DatabaseMixin:
    """What extends Flask-SQLAlchemy; it works only before ``SQLAlchemy``.

    :raises SetupError: it is behind ``SQLAlchemy``, or without it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        bases = cls.__mro__
        behind = bases[bases.index(SQLAlchemy) :] if SQLAlchemy in bases else ()
        for late in _mixins(behind):
            raise SetupError(f"{late} must come before SQLAlchemy: class {cls.__name__}({late}, SQLAlchemy).")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, SQLAlchemy):
            mixin = _mixins(type(self).__mro__)[-1]
            raise SetupError(f"{mixin} extends SQLAlchemy: class {type(self).__name__}({mixin}, SQLAlchemy).")
        super().__init__(*args, **kwargs)


def _mixins(bases: Sequence[type]) -> list[str]:
    return [base.__name__ for base in bases if DatabaseMixin in base.__bases__]


class SignalBusMixin(DatabaseMixin):
    """Adds a signal bus to Flask-SQLAlchemy; put it before ``SQLAlchemy``.

    ::

        class Database(SignalBusMixin, SQLAlchemy):
            pass

        db = Database(app)      # or: db = Database(); db.init_app(app)

    Afterwards ``db.signalbus`` is the :class:`SignalBus`, so is ``app.extensions["signalbus"]``, and the
    ``flask signalbus`` commands exist.

    :raises SetupError: the bases are in the wrong order, or the application has a signal bus already.
    """

    signalbus: SignalBus

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before the rest: with DB(app), SQLAlchemy calls init_app from here.
        self.signalbus = SignalBus(cast(Any, self))
        super().__init__(*args, **kwargs)
        self.signalbus.prepare_tables()

    def init_app(self, app: Flask) -> None:
        """Initialize the application, as ``SQLAlchemy.init_app`` does, and register the signal bus."""
        if EXTENSION in app.extensions:
            raise SetupError(f"The application {app.name!r} has a SignalBus already; one is all that it can have.")
        super().init_app(app)  # type: ignore[misc]
        app.extensions[EXTENSION] = self.signalbus
        app.cli.add_command(signalbus_commands)
