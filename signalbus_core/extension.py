"""The mixin that adds the signal bus and its commands to Flask-SQLAlchemy, and the base class of all mixins."""

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
    """Base of the mixins for Flask-SQLAlchemy; they work only before ``SQLAlchemy`` in the list of bases.

    :raises SetupError: it comes after ``SQLAlchemy``, or without it.
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
        # Set first: with DB(app), SQLAlchemy.__init__ calls init_app.
        self.signalbus = SignalBus(cast(Any, self))
        super().__init__(*args, **kwargs)

    def init_app(self, app: Flask) -> None:
        """Initialize the application, as ``SQLAlchemy.init_app`` does, and register the signal bus."""
        if EXTENSION in app.extensions:
            raise SetupError(f"The application {app.name!r} has a SignalBus already; one is all that it can have.")
        super().init_app(app)  # type: ignore[misc]
        app.extensions[EXTENSION] = self.signalbus
        app.cli.add_command(signalbus_commands)
