"""A private PostgreSQL: own directory, own port, loopback only, gone when its owner is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2

from .guardian import guardian
from .programs import INSTALL_HINT, ServersMissingError, find_program, free_port, give_to, run_as
from .waiting import eventually

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
)


#: Where the programs of another version are than the one that is installed; it goes before everything but a given URL.
PROGRAMS_VARIABLE = "SIGNALBUS_TEST_POSTGRES_PROGRAMS"


class PrivatePostgres:
    """A PostgreSQL server started from the programs of this machine.

    :param fsync: be as durable as in production; otherwise as fast as can be.
    :param settings: further settings, as ``name=value``.
    """

    def __init__(self, *, fsync: bool = False, settings: Sequence[str] = ()) -> None:
        chosen = os.environ.get(PROGRAMS_VARIABLE)
        initdb = Path(chosen, "initdb") if chosen else find_program("initdb", *PLACES)
        if initdb is None:
            raise ServersMissingError(f"PostgreSQL is not installed. {INSTALL_HINT}")
        self._programs = initdb.parent
        # PostgreSQL refuses to run as root, and its user must be able to enter every directory above.
        self.directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-pg-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        give_to("postgres", self.directory)
        self.port = free_port()
        self.settings = tuple(settings)
        self._settings = [] if fsync else ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        self._settings += settings
        self._process: subprocess.Popen[bytes] | None = None
        self._make_data()

    def _make_data(self) -> None:
        data = self.directory / "data"
        self._run(
            *(self._programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        )

    def __enter__(self) -> PrivatePostgres:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The first process of the server; the others are below it."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return self.database_url("postgres")

    def database_url(self, name: str) -> str:
        return f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/{name}"

    def create_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.database_url(name)

    def execute(self, statement: str) -> list[Any]:
        """Run a statement as superuser, outside a transaction."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def start(self) -> PrivatePostgres:
        settings = [argument for setting in self._settings for argument in ("-c", setting)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self.directory / "data", "-h", "127.0.0.1", "-p", str(self.port), "-k", self.directory),
                    *("-c", "max_connections=200", *settings),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **run_as("postgres"),
            )
        guardian.watch("group", self._process.pid)
        eventually(self._answers, 30, "PostgreSQL answers", every_seconds=0.05)
        return self

    def stop(self) -> None:
        """Stop as an administrator would: connections are ended, data is written."""
        self._end(signal.SIGINT)

    def kill9(self) -> None:
        """Stop as a power failure would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.resume()
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        guardian.release("directory", str(self.directory))

    def log_tail(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-3000:]

    def _run(self, *command: object) -> None:
        arguments = [str(part) for part in command]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd="/", check=False, **run_as("postgres"))
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")

    def _connect(self) -> Any:
        return psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=5)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended:\n{self.log_tail()}")
        try:
            self._connect().close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # Without the wait a restart would find the old process's number in the lock file.
        process.wait(30)
        guardian.release("group", process.pid)

    def _signal_all(self, number: int) -> None:
        """Signal the server with its backends; these lead process groups of their own."""
        if self._process is None:
            return
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)], capture_output=True, text=True, check=False
        )
        for pid in [self._process.pid, *(int(pid) for pid in children.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
