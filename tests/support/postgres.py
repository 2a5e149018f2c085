"""A private PostgreSQL."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2

from .databases import Databases, new_name
from .guardian import guardian
from .private_process import PrivateProcess, required
from .programs import Machine, chosen_programs, free_port

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)


#: Where the programs of another version are than the one that is installed; it goes before everything but a given URL.
PROGRAMS_VARIABLE = "SIGNALBUS_TEST_POSTGRES_PROGRAMS"


class PrivatePostgres(PrivateProcess):
    """A PostgreSQL server.

    :param fsync: be as durable as in production; otherwise as fast as can be.
    :param settings: further settings, as ``name=value``.
    """

    name = "PostgreSQL"
    # PostgreSQL refuses to run as root, and its user must be able to enter every directory above.
    account = "postgres"
    # Connections are ended, data is written.
    stop_signal = signal.SIGINT
    # No data is written, but the shared memory is given back.
    close_signal = signal.SIGQUIT

    def __init__(self, *, fsync: bool = False, settings: Sequence[str] = ()) -> None:
        given = os.environ.get(PROGRAMS_VARIABLE)
        machine = Machine() if given else chosen_programs()
        self._programs = Path(given or required("initdb", self.name, *PLACES, programs=machine).parent)
        super().__init__(machine)
        self.port = free_port()
        self.settings = tuple(settings)
        self._settings = [] if fsync else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        self._settings += settings
        self._databases = Databases(self._connect, "postgres")
        try:
            self._make_data()
        except BaseException:
            self.close()
            raise

    def _make_data(self) -> None:
        subprocess.run(["cp", "-R", _fresh_data(self._machine, self._programs), self.directory / "data"], check=True)
        self._give_directory()
        (self.directory / "data").chmod(0o700)

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{name}"

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = new_name()
        self.execute(f'CREATE DATABASE "{name}"')
        return self.database_url(name)

    @contextlib.contextmanager
    def lend_database(self) -> Iterator[str]:
        """The URL of an empty database, for the time of the block."""
        with self._databases.lend() as name:
            yield self.database_url(name)

    def execute(self, statement: str) -> list[Any]:
        """Run a statement as superuser, outside a transaction."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def _command(self) -> Sequence[object]:
        settings = [argument for setting in self._settings for argument in ("-c", setting)]
        return [
            self._programs / "postgres",
            *("-D", self.directory / "data", "-h", "127.0.0.1", "-p", self.port, "-k", self.directory),
            *("-c", "max_connections=200", *settings),
        ]

    def close(self) -> None:
        self._databases.close()
        super().close()

    def _connect(self, name: str = "postgres") -> Any:
        return psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=name, connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True


@cache
def _fresh_data(machine: Machine, programs: Path) -> Path:
    """The data directory of a server that never ran. A copy of it takes a quarter of the time of making one."""
    directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-initdb-", dir="/tmp"))
    guardian.watch("directory", str(directory))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    machine.give_to("postgres", directory)
    data = directory / "data"
    command = (programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
    arguments, account = machine.command("postgres", command), machine.run_as("postgres")
    done = subprocess.run(arguments, capture_output=True, text=True, cwd="/", check=False, **account)
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
    return data
