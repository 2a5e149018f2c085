"""The kinds of applications, with the same things to be done in each."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import flask_sqlalchemy_lite
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from signalbus_core import inbox

from . import plain, with_flask, with_sqlmodel

Work = Callable[[Session], Any]


class Application(ABC):
    """An application that writes orders and signals.

    :ivar models: the module with its models.
    """

    models: ModuleType = plain

    def __init__(self, database_url: str) -> None:
        self.url = sa.make_url(database_url)

    @abstractmethod
    def create_all(self) -> None: ...

    @abstractmethod
    def in_transaction(self, work: Work, *, commit: bool = True) -> Any:
        """Do the work in a session, and commit or roll back."""


class Plain(Application):
    """Sessions of SQLAlchemy alone."""

    @contextlib.contextmanager
    def _engine(self) -> Iterator[sa.Engine]:
        engine = sa.create_engine(self.url)
        yield engine
        engine.dispose()

    def create_all(self) -> None:
        with self._engine() as engine:
            self.models.Base.metadata.create_all(engine)

    def in_transaction(self, work: Work, *, commit: bool = True) -> Any:
        with self._engine() as engine, Session(engine) as session:
            result = work(session)
            session.commit() if commit else session.rollback()
            return result


class WithSQLModel(Plain):
    models = with_sqlmodel


class Psycopg3(Plain):
    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.url = self.url.set(drivername="postgresql+psycopg")


class WithFlask(Application):
    models = with_flask

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        with_flask.db.init_app(self.app)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        with self.app.app_context():
            yield with_flask.db.session()
            with_flask.db.engine.dispose()

    def create_all(self) -> None:
        with self._session():
            with_flask.db.create_all()

    def in_transaction(self, work: Work, *, commit: bool = True) -> Any:
        with self._session() as session:
            result = work(session)
            session.commit() if commit else session.rollback()
            return result


class WithLite(WithFlask):
    """Flask-SQLAlchemy-Lite: sessions and engines of Flask, models of a plain base class."""

    models = plain

    def __init__(self, database_url: str) -> None:
        Application.__init__(self, database_url)
        self.db = flask_sqlalchemy_lite.SQLAlchemy()
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_ENGINES"] = {"default": database_url}
        self.db.init_app(self.app)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        with self.app.app_context():
            yield self.db.session
            self.db.engine.dispose()

    def create_all(self) -> None:
        with self._session():
            plain.Base.metadata.create_all(self.db.engine)


class Async(Application):
    """An ``AsyncSession``."""

    driver = ""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.url = self.url.set(drivername=f"postgresql+{self.driver}")

    def create_all(self) -> None:
        async def run() -> None:
            engine = create_async_engine(self.url)
            async with engine.begin() as connection:
                await connection.run_sync(self.models.Base.metadata.create_all)
            await engine.dispose()

        asyncio.run(run())

    def in_transaction(self, work: Work, *, commit: bool = True) -> Any:
        async def run() -> Any:
            engine = create_async_engine(self.url)
            async with AsyncSession(engine) as session:
                result = await session.run_sync(work)
                await (session.commit() if commit else session.rollback())
            await engine.dispose()
            return result

        return asyncio.run(run())


class Asyncpg(Async):
    driver = "asyncpg"


class AsyncPsycopg(Async):
    driver = "psycopg"


class AsyncSQLModel(Async):
    models = with_sqlmodel
    driver = "asyncpg"


KINDS: dict[str, type[Application]] = {
    "Flask-SQLAlchemy": WithFlask,
    "Flask-SQLAlchemy-Lite": WithLite,
    "DeclarativeBase": Plain,
    "DeclarativeBase, psycopg 3": Psycopg3,
    "SQLModel": WithSQLModel,
    "SQLModel, asyncpg": AsyncSQLModel,
    "AsyncSession, asyncpg": Asyncpg,
    "AsyncSession, psycopg 3": AsyncPsycopg,
}


def received(message_id: str) -> Work:
    return lambda session: inbox.receive(session, message_id, "billing")
