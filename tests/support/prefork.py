"""Commands as processes of their own, each without the second that it takes to import what all of them import.

A server imports that once, and forks a process for each command. The process is given what an executed one is given:
directory, environment, arguments, standard streams and a session of its own; and it ends as an executed one ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

#: The commands, and what is called for each.
COMMANDS = {
    "signalbus-relay": "relay.cli:main",
    "flask": "flask.cli:main",
    "alembic": "alembic.config:main",
    "python": "tests.support.prefork:python",
}

#: What nearly all of them import.
MODULES = (
    "relay.cli",
    "flask.cli",
    "signalbus_core.cli",
    "signalbus_core.rabbitmq",
    "psycopg2.extras",
    "alembic.config",
    "alembic.autogenerate",
)

PROGRAMS = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]

#: A program that has the server run a command in its place, where a shell is told to run one.
STAND_IN = """\
#!{python} -IS
import os, pickle, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("{address}")
socket.send_fds(connection, [b"+"], [0, 1, 2])
connection.sendall(pickle.dumps((["{name}", *sys.argv[1:]], dict(os.environ), os.getcwd())))
pid = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _frame: os.kill(pid, number))
code = os.waitstatus_to_exitcode(int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big"))
sys.exit(code if code >= 0 else 128 - code)
"""

#: What the server is told to run.
SERVER = "import sys; from tests.support.prefork import serve; serve(sys.argv[1])()"


class Forked:
    """A process that was forked, with what is used of :class:`subprocess.Popen`."""

    def __init__(self, command: Sequence[str], connection: socket.socket) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._connection = connection
        self.pid = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")

    def poll(self) -> int | None:
        return self._ask(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ask(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may end between the two.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ask(self, timeout: float | None) -> int | None:
        """How it has ended; None: it has not, within so many seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                told = self._connection.recv(4, socket.MSG_WAITALL)
            except (TimeoutError, BlockingIOError):
                return None
            self._connection.close()
            if len(told) < 4:
                raise RuntimeError(f"nothing tells how {self.args} has ended")
            self.returncode = os.waitstatus_to_exitcode(int.from_bytes(told, "big"))
        return self.returncode


class ForkServer:
    """The owner's end. The server starts when it is first needed, and ends with its owner."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def fork(self, command: Sequence[str], environ: Mapping[str, str], cwd: Path, streams: Sequence[int]) -> Forked:
        """Start a command with its standard input, output and errors."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        socket.send_fds(connection, [b"+"], streams)
        connection.sendall(pickle.dumps((list(command), dict(environ), str(cwd))))
        return Forked(command, connection)

    @property
    def address(self) -> str:
        """Where it listens."""
        if self._process is None:
            self._start()
        return self._address

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            # It ends with its input.
            process.communicate()

    def _start(self) -> None:
        self._address = f"{tempfile.gettempdir()}/signalbus-{os.getpid()}-forks"
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"listening\n"


fork_server = ForkServer()


def start(
    command: Sequence[object], environ: Mapping[str, str], cwd: Path, stdout: IO[Any], stderr: IO[Any], text: str = ""
) -> subprocess.Popen[bytes] | Forked:
    """Start one of :data:`COMMANDS` in a session of its own.

    :param text: what it can read.
    """
    name, arguments = Path(str(command[0])).name, [str(argument) for argument in command[1:]]
    with tempfile.TemporaryFile("w+") as stdin:
        stdin.write(text)
        stdin.seek(0)
        if _starts_as_the_server(environ):
            streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
            return fork_server.fork([name, *arguments], environ, cwd, streams)
        program = [str(PROGRAMS / name), *arguments]
        return subprocess.Popen(
            program, env=environ, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
        )


def run(
    command: Sequence[object], environ: Mapping[str, str], cwd: Path, timeout: float = 120, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run one of :data:`COMMANDS` to its end.

    :param text: what it can read.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = start(command, environ, cwd, output, errors, text)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(process.args, code, output.read(), errors.read())


def stand_ins(directory: Path) -> Path:
    """A directory for a shell's ``PATH``, with a program for each of :data:`COMMANDS` but the interpreter."""
    directory.mkdir()
    for name in COMMANDS.keys() - {"python"}:
        program = directory / name
        program.write_text(STAND_IN.format(python=sys.executable, address=fork_server.address, name=name))
        program.chmod(0o755)
    return directory


def _starts_as_the_server(environ: Mapping[str, str]) -> bool:
    """Whether the interpreter would start with these variables as it did with those of the server."""
    names = [name for name in {*environ, *os.environ} if name.startswith(("PYTHON", "LC_", "LANG"))]
    return all(environ.get(name) == os.environ.get(name) for name in names)


def serve(address: str) -> Callable[[], object]:
    """Fork for each request. It returns in the forked processes, with what they have to call."""
    for module in MODULES:
        importlib.import_module(module)
    # Where a command that was executed finds its own directory.
    sys.path[0] = str(PROGRAMS)
    # The forked processes share what is in memory for as long as they do not write to it, as collecting garbage would.
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        Path(address).unlink(missing_ok=True)
        listener.bind(address)
        listener.listen()
        os.write(sys.stdout.fileno(), b"listening\n")
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    return _command(connection)
            # Those that have ended are asked for, and so are told apart from those that run.
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    continue
    Path(address).unlink()
    return sys.exit


def python() -> None:
    """What the interpreter does with ``-c CODE``, and with a file."""
    code, name = (sys.argv[2], "<string>") if sys.argv[1] == "-c" else (Path(sys.argv[1]).read_text(), sys.argv[1])
    del sys.argv[: 2 if name == "<string>" else 1]
    sys.path[0] = ""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(code, name, "exec"), vars(module))  # noqa: S102


def _command(connection: socket.socket) -> Callable[[], object]:
    """Fork once more, for the command; wait for its end, and tell it. Returns in the process of the command."""
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as request:
        [name, *arguments], environ, cwd = pickle.load(request)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.chdir(cwd)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = [str(PROGRAMS / name), *arguments]
        connection.sendall(os.getpid().to_bytes(4, "big"))
        module, _, function = COMMANDS[name].partition(":")
        return lambda: sys.exit(getattr(importlib.import_module(module), function)())
    for number in (0, 1, *streams):
        os.close(number)
    _, status = os.waitpid(pid, 0)
    # Whoever asked for it may be gone.
    with contextlib.suppress(OSError):
        connection.sendall(status.to_bytes(4, "big"))
    os._exit(0)
