"""Real servers for tests and demo: given by the environment, from Docker, or from the programs of this machine.

Never a stand-in, never a silent skip: where no server is to be had, the error says what to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import psycopg2

from .databases import Databases
from .marks import assert_may_start
from .postgres import PROGRAMS_VARIABLE, PrivatePostgres
from .rabbitmq import PrivateRabbitMQ

DATABASE_VARIABLE = "SIGNALBUS_TEST_DATABASE_URL"
AMQP_VARIABLE = "SIGNALBUS_TEST_AMQP_URL"

POSTGRES_IMAGE = os.environ.get("SIGNALBUS_TEST_POSTGRES_IMAGE", "postgres:16")
RABBITMQ_IMAGE = os.environ.get("SIGNALBUS_TEST_RABBITMQ_IMAGE", "rabbitmq:3.13")


class Postgres(Protocol):
    """A PostgreSQL server, wherever it comes from."""

    @property
    def url(self) -> str: ...

    def create_database(self) -> str:
        """Create an empty database and return its URL."""

    def lend_database(self) -> AbstractContextManager[str]:
        """The URL of an empty database, for the time of the block."""


class RabbitMQ(Protocol):
    """A RabbitMQ server, wherever it comes from."""

    @property
    def url(self) -> str: ...


class GivenPostgres:
    """A server that runs already. Databases made on it are dropped at the end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._databases = Databases(self._connect, url.partition("?")[0].rsplit("/", 1)[1])
        self._created: list[str] = []

    def create_database(self) -> str:
        self._created.append(self._databases.create())
        return self._database_url(self._created[-1])

    @contextlib.contextmanager
    def lend_database(self) -> Iterator[str]:
        with self._databases.lend() as name:
            yield self._database_url(name)

    def close(self) -> None:
        for name in self._created:
            self._databases.drop(name)
        self._databases.drop_returned()
        self._databases.close()

    def _database_url(self, name: str) -> str:
        base, _, query = self.url.partition("?")
        return base.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")

    def _connect(self, name: str) -> Any:
        return psycopg2.connect(self._database_url(name).replace("+psycopg2", "", 1))


@dataclass
class GivenRabbitMQ:
    """A broker that runs already."""

    url: str


@contextlib.contextmanager
def acquire_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the time of the block."""
    assert_may_start("PostgreSQL")
    if url := os.environ.get(DATABASE_VARIABLE):
        with contextlib.closing(GivenPostgres(_with_driver(url))) as given:
            yield given
    elif docker_answers() and PROGRAMS_VARIABLE not in os.environ:
        with _postgres_container() as container:
            yield GivenPostgres(_with_driver(container.get_connection_url()))
    else:
        with PrivatePostgres() as private:
            yield private.start()


@contextlib.contextmanager
def acquire_rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ server for the time of the block."""
    assert_may_start("RabbitMQ")
    if url := os.environ.get(AMQP_VARIABLE):
        yield GivenRabbitMQ(url)
    elif docker_answers():
        with _rabbitmq_container() as container:
            yield GivenRabbitMQ(_container_url(container))
    else:
        with PrivateRabbitMQ() as private:
            yield private.start()


@cache
def docker_answers() -> bool:
    """Whether there is a Docker engine, not only its client."""
    if (
        shutil.which("docker") is None
        and "DOCKER_HOST" not in os.environ
        and not os.path.exists("/var/run/docker.sock")
    ):
        return False
    if shutil.which("docker") is None:
        return True
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def _postgres_container() -> Any:
    # testcontainers warns of itself when it is imported.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from testcontainers.community.postgres import PostgresContainer

        return PostgresContainer(POSTGRES_IMAGE, driver="psycopg2")


def _rabbitmq_container() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from testcontainers.community.rabbitmq import RabbitMqContainer

        return RabbitMqContainer(RABBITMQ_IMAGE)


def _container_url(container: Any) -> str:
    parameters = container.get_connection_params()
    login = parameters.credentials
    return f"amqp://{login.username}:{login.password}@{parameters.host}:{parameters.port}/%2F"


def _with_driver(url: str) -> str:
    """SQLAlchemy 2.1 takes a bare ``postgresql://`` for another driver, and refuses ``postgres://``."""
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg2://" + url.removeprefix(scheme)
    return url
