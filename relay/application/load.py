"""Loads ``module:attribute`` as an application with a signal bus. Each error says what to do."""

from __future__ import annotations

import _thread
import ast
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from flask import Flask
from flask.ctx import AppContext
from sqlalchemy.engine import Engine

from signalbus_core import SetupError, SignalBus
from signalbus_core.lowlevel import raise_if_stop
from signalbus_core.rabbitmq import BrokerLocation, Publisher, RabbitMQSignal

#: Environment variables with the URL of the broker, for applications that configure none.
AMQP_FALLBACKS = ("AMQP_URL", "RABBITMQ_URL")

#: The remedy when SQLAlchemy chooses another driver for a URL, or knows none for it.
WRITE_DRIVER = "Begin the database's URL with postgresql+psycopg2://."

#: The remedy for libpq's list of hosts, which SQLAlchemy does not read.
WRITE_HOSTS = "Name several hosts as SQLAlchemy does: postgresql+psycopg2://user@/database?host=h1:5432&host=h2:5432."

#: The functions of SQLAlchemy that parse a database URL.
_READS_URL = ("make_url", "_parse_url")

#: The attributes that are tried, in this order, when none is given.
USUAL_NAMES = ("app", "application", "create_app", "make_app")


class LoadingError(Exception):
    """The application cannot be loaded; the text says why and what to do."""


@dataclass(frozen=True)
class LoadedApp:
    """An application and its signal bus.

    :param remarks: warnings that do not prevent relaying.
    """

    app: Flask
    bus: SignalBus
    remarks: tuple[str, ...] = ()

    def engines(self) -> dict[str | None, Engine]:
        """The engines of the databases that have signal models, by bind key."""
        with self.app.app_context():
            return {spec.bind_key: self.bus.db.engines[spec.bind_key] for spec in self.bus.specs()}


def load_app(location: str) -> Flask:
    """Import the application.

    :param location: ``module:attribute``; the attribute is an application or a factory, with literal arguments if need
      be: ``shop:create_app('production')``. Without it the usual names are tried.
    :raises LoadingError: there is no such application, or its code raises.
    """
    try:
        app = _load_app(location)
    except LoadingError:
        refuse_green_threads(f"--app {location}")
        raise
    refuse_green_threads(f"--app {location}")
    return app


def _load_app(location: str) -> Flask:
    name, _, expression = location.partition(":")
    option = f"--app {location}"
    module = import_module(module_name(name, option), option)
    name, arguments = _parse_expression(module, expression, location)
    try:
        found = getattr(module, name)
    except AttributeError:
        raise LoadingError(f"--app {location}: the module {module.__name__!r} has no attribute {name!r}.") from None
    if not isinstance(found, Flask) and callable(found):
        try:
            found = found(*arguments[0], **arguments[1])
        except BaseException as error:
            raise_if_stop(error)
            raise LoadingError(
                f"--app {location}: {name}() raised {_text_of_error(error)} ({_place(error)}).{_hint(error)}"
            ) from error
    if not isinstance(found, Flask):
        raise LoadingError(f"--app {location}: a Flask application or a factory is expected, not {found!r}.")
    return found


def refuse_green_threads(option: str) -> None:
    """Refuse threads that share one thread of the operating system: one that waits for a server stops all others."""
    library = str(_thread.start_new_thread.__module__).partition(".")[0]
    if library != "_thread":
        raise LoadingError(
            f"{option}: {library} has replaced the threads of the standard library, and the relay needs real "
            "ones. Have the web server patch (gunicorn's worker class does), or a module that only the web server "
            "imports, and name an application here whose import does not patch."
        )


def find_bus(app: Flask, imports: Sequence[str]) -> LoadedApp:
    """Find the application's signal bus, and make sure that it has something to send.

    :param imports: modules that define further signal models.
    :raises LoadingError: there is no signal bus, or no signal model.
    """
    bus = app.extensions.get("signalbus")
    if not isinstance(bus, SignalBus):
        raise LoadingError(
            f"The application {app.name!r} has no SignalBus. Put SignalBusMixin before SQLAlchemy, "
            "class Database(SignalBusMixin, SQLAlchemy), and call init_app."
        )
    context = app.app_context()
    context.push()
    try:
        for name in imports:
            import_module(name, f"--import {name}")
        if not bus.get_signal_models():
            raise LoadingError(
                "No signal model was found. A signal model is a db.Model class with a method send_signalbus_message "
                "(RabbitMQSignal supplies one). If they are in a module that the application imports later, name it "
                "with --import MODULE."
            )
    finally:
        _pop_context(context)
    return LoadedApp(app, bus)


def _pop_context(context: AppContext) -> None:
    """Leave an application context, as the relay does after each burst."""
    try:
        context.pop(None)
    except BaseException as error:
        raise_if_stop(error)
        raise LoadingError(
            f"A function of teardown_appcontext raised {_text_of_error(error)} ({_place(error)}). It is called "
            "whenever an application context ends, also without a request: have it do nothing then."
        ) from error


def choose_broker_url(app: Flask, amqp_url: str | None, environ: Mapping[str, str]) -> str | None:
    """The broker URL that replaces the application's; None where the application's is used.

    :param amqp_url: as configured for the relay.
    """
    if amqp_url is None and not app.config.get("SIGNALBUS_RABBITMQ_URL"):
        return next((usable_broker_url(environ[name], name) for name in AMQP_FALLBACKS if environ.get(name)), None)
    return amqp_url


def usable_broker_url(url: str, variable: str) -> str:
    """The URL.

    :raises LoadingError: it cannot be used; the text names the variable.
    """
    try:
        BrokerLocation(url)
    except SetupError as error:
        raise LoadingError(f"{variable}: {error}") from None
    return url


def find_broker(loaded: LoadedApp, amqp_url: str | None) -> None:
    """Make sure that the application has a way to send.

    :param amqp_url: replaces the application's broker.
    """
    app = loaded.app
    if amqp_url is not None:
        app.config["SIGNALBUS_RABBITMQ_URL"] = amqp_url
    is_needed = any(issubclass(model, RabbitMQSignal) for model in loaded.bus.get_signal_models())
    if is_needed and "signalbus_rabbitmq" not in app.extensions:
        # Created now, so that the relay knows the state of the broker before the first signal.
        Publisher(app)


def module_name(name: str, option: str) -> str:
    """The name of the module; a path to a file is accepted, as Flask does."""
    sys.path.insert(0, str(Path.cwd()))
    if not name.endswith(".py"):
        return name
    path = Path(name).resolve()
    if not path.is_file():
        raise LoadingError(f"{option}: there is no such file.")
    sys.path.insert(0, str(path.parent))
    return path.stem


def import_module(name: str, option: str) -> ModuleType:
    """Import a module.

    :raises LoadingError: there is none, or its code raises; the text names the option.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadingError(
                f"{option}: there is no module {error.name!r}. It is looked for in the current directory and where "
                "Python packages are installed."
            ) from error
        raise LoadingError(f"{option}: importing {name} failed: {error} ({_place(error)}).") from error
    except BaseException as error:
        raise_if_stop(error)
        raise LoadingError(
            f"{option}: importing {name} raised {_text_of_error(error)} ({_place(error)}).{_hint(error)}"
        ) from error


def _parse_expression(
    module: ModuleType, expression: str, location: str
) -> tuple[str, tuple[list[Any], dict[str, Any]]]:
    """Split ``create_app('a', b=1)`` into the name and its arguments."""
    if not expression:
        for name in USUAL_NAMES:
            if hasattr(module, name):
                return name, ([], {})
        raise LoadingError(
            f"--app {location}: the module has none of {', '.join(USUAL_NAMES)}. Name the attribute: "
            f"--app {module.__name__}:ATTRIBUTE."
        )
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, ([], {})
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            positional = [ast.literal_eval(argument) for argument in node.args]
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
            return node.func.id, (positional, named)
    except (SyntaxError, ValueError):
        node = None
    raise LoadingError(
        f"--app {location}: a name, or a call with literal arguments, is expected after the colon, not {expression!r}."
    )


def _text_of_error(error: BaseException) -> str:
    """The text of the application's error, except when a URL cannot be parsed: it may hold a password."""
    kind = type(error).__name__
    return f"{kind}: the URL of a database cannot be read" if _reads_url(error) else f"{kind}: {error}"


def _reads_url(error: BaseException) -> bool:
    return any(
        frame.f_globals.get("__name__") == "sqlalchemy.engine.url" and frame.f_code.co_name in _READS_URL
        for frame, _ in walk_tb(error.__traceback__)
    )


def _hint(error: BaseException) -> str:
    """The remedy for errors whose text does not show their cause."""
    text = str(error)
    if _reads_url(error) and "," in text:
        return f" {WRITE_HOSTS}"
    if "psycopg" in text or "dialects:postgres" in text:
        # SQLAlchemy 2.1 uses psycopg 3 for postgresql://, and does not accept postgres://.
        return f" {WRITE_DRIVER}"
    return ""


def _place(error: BaseException) -> str:
    """The file and line in which the application's code raised it."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "no place known"
    code = traceback.tb_frame.f_code
    return f"{code.co_filename}, line {traceback.tb_lineno}, in {code.co_name}"
