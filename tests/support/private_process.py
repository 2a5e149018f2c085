"""A server of one's own: started from the programs of this machine, on the loopback address, gone with its owner.

When :meth:`PrivateProcess.stop` and :meth:`PrivateProcess.kill9` return, no process of the server is left: not the
first one, and none below it. So it can be started again at once, with the same directory and the same ports.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .guardian import guardian
from .marks import assert_may_start
from .programs import INSTALL_HINT, Machine, ServersMissingError
from .waiting import eventually

if TYPE_CHECKING:
    from typing_extensions import Self

#: A server that was killed, or was asked to end, is gone within so many seconds.
ENDING_SECONDS = 60.0

#: Another program of a server ends within so many seconds.
RUNNING_SECONDS = 120.0


class PrivateProcess(ABC):
    """A server with a directory of its own, where its output is in the file ``output``."""

    #: What it is called in messages.
    name: ClassVar[str]
    #: The system's account that it runs as, where this process is root; None: as this process.
    account: ClassVar[str | None] = None
    #: It answers within so many seconds.
    starting_seconds: ClassVar[float] = 30.0
    #: The signal that ends it in order.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    #: The signal that ends it when nothing of it needs to be kept.
    close_signal: ClassVar[signal.Signals] = signal.SIGKILL

    def __init__(self, programs: Machine | None = None) -> None:
        self._machine = programs or Machine()
        # Not below a directory that only root may enter, as pytest's are.
        self.directory = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-{self.name.lower()}-", dir="/tmp"))
        guardian.watch("directory", str(self.directory))
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _command(self) -> Sequence[object]:
        """What starts it."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it does its work."""

    def _environ(self) -> Mapping[str, str] | None:
        """Its environment, where that is not this process's."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The first process of the server; the others are below it."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def output(self) -> str:
        """All that it has printed."""
        return (self.directory / "output").read_text(errors="replace")

    def start(self) -> Self:
        """Start it, and wait until it answers.

        :raises RuntimeError: it ended.
        """
        assert_may_start(self.name)
        with (self.directory / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._machine.command(self.account, self._command()),
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
                **self._machine.run_as(self.account),
            )
        guardian.watch("group", self._process.pid)
        eventually(self._answers_while_it_runs, self.starting_seconds, f"{self.name} answers", every_seconds=0.05)
        return self

    def stop(self) -> None:
        """Stop as an administrator would."""
        self._end(self.stop_signal)

    def kill9(self) -> None:
        """Stop as a power failure would: all its processes at once."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_family(signal.SIGCONT)

    def close(self) -> None:
        """End it, whatever state it is in, and remove its directory."""
        try:
            self.resume()
            self._end(self.close_signal)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
            guardian.release("directory", str(self.directory))

    def _run(self, *command: object, text: str = "") -> str:
        """Run another of its programs to its end, as its account; return what it printed.

        :param text: what it reads.
        :raises RuntimeError: it failed.
        :raises subprocess.TimeoutExpired: it does not end, as where it asks a server that stands still.
        """
        done = subprocess.run(
            self._machine.command(self.account, command),
            timeout=RUNNING_SECONDS,
            input=text,
            env=self._environ(),
            capture_output=True,
            text=True,
            cwd=self.directory,
            check=False,
            **self._machine.run_as(self.account),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _give_directory(self) -> None:
        """Let its account have the directory with all that is in it."""
        if self.account:
            self._machine.give_to(self.account, self.directory)

    def _answers_while_it_runs(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.output[-3000:]}")
        return self._answers()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if number == signal.SIGKILL:
            # A process that stands still starts no other, which would be overlooked.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
        family = family_of(process.pid)
        for pid in family if number == signal.SIGKILL else [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        process.wait(ENDING_SECONDS)
        eventually(lambda: not living(family), ENDING_SECONDS, f"all processes of {self.name} end")
        guardian.release("group", process.pid)

    def _signal_family(self, number: signal.Signals) -> None:
        if self._process is not None:
            for pid in family_of(self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


def required(name: str, package: str, *places: str, programs: Machine | None = None) -> Path:
    """Where a program is.

    :raises ServersMissingError: it is not here.
    """
    program = (programs or Machine()).find(name, *places)
    if program is None:
        raise ServersMissingError(f"{package} is not installed. {INSTALL_HINT}")
    return program


def family_of(pid: int) -> list[int]:
    """A process, those of its group, and all below them; these may lead groups of their own, as PostgreSQL's do."""
    table = [list(map(int, line.split())) for line in _ps("-A", "-o", "pid=,ppid=,pgid=")]
    family = {pid} | {one for one, _parent, group in table if group == pid}
    while found := {one for one, parent, _group in table if parent in family} - family:
        family |= found
    return [pid, *sorted(family - {pid})]


def living(pids: Sequence[int]) -> list[int]:
    """Those that run still. One that has ended, but that nobody has asked for yet, holds nothing any more."""
    states = [line.split() for line in _ps("-o", "pid=,stat=", "-p", ",".join(map(str, pids)))]
    return [int(pid) for pid, state in states if not state.startswith("Z")]


def _ps(*arguments: str) -> list[str]:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout.splitlines()
