"""Where server programs are, and as whom they run: those of this machine, or those of a directory tree."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, ClassVar

INSTALL_HINT = (
    "Run `make setup`, which installs it where it can; or start a Docker engine; or set "
    "SIGNALBUS_TEST_DATABASE_URL and SIGNALBUS_TEST_AMQP_URL."
)

#: The root directory of another release of the system, whose servers are used instead of those of this machine.
TREE_VARIABLE = "SIGNALBUS_TEST_SERVERS_ROOT"


class ServersMissingError(Exception):
    """There is no server to be had; the message says what to install or to run."""


@dataclass(frozen=True)
class Machine:
    """The programs that are installed on this machine."""

    def find(self, name: str, *patterns: str) -> Path | None:
        return find_program(name, *patterns)

    def command(self, account: str | None, command: Sequence[object]) -> list[str]:
        """What starts a program as its account."""
        return [str(part) for part in command]

    def run_as(self, account: str | None) -> dict[str, Any]:
        """Further arguments for :mod:`subprocess`."""
        return run_as(account) if account else {}

    def owner(self, account: str) -> tuple[int, int] | None:
        """User and group that the files of an account belong to; None: to whoever made them."""
        if os.getuid() != 0:
            return None
        entry = pwd.getpwnam(run_as(account)["user"])
        return entry.pw_uid, entry.pw_gid

    def give_to(self, account: str, directory: Path) -> None:
        """Make a directory and all in it belong to an account."""
        owner = self.owner(account)
        if owner is not None:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, *owner)


@dataclass(frozen=True)
class Tree(Machine):
    """The programs in a directory tree, which root starts in it.

    Each has a mount namespace of its own, so that nothing stays mounted when it ends, in whatever way. It sees the
    ``/tmp``, ``/dev`` and ``/proc`` of this machine, and has its own accounts.
    """

    root: Path

    #: Each step is an ``exec``: the program has the process id that the first of them was started with.
    ENTER: ClassVar[str] = (
        'for place in dev proc tmp; do mount --rbind "/$place" "$0/$place" || exit; done; '
        'userspec=$1; shift; exec chroot --userspec="$userspec" --groups= "$0" "$@"'
    )

    def __post_init__(self) -> None:
        if os.getuid() != 0:
            raise ServersMissingError(f"Only root can start the servers in {self.root}.")
        if not (self.root / "etc/passwd").exists():
            raise ServersMissingError(f"There are no servers in {self.root}. `make test-servers` puts them there.")

    def find(self, name: str, *patterns: str) -> Path | None:
        for pattern in patterns:
            found = sorted(glob(f"{self.root}{pattern}/{name}"), key=_version_in, reverse=True)
            if found:
                return Path("/") / Path(found[0]).relative_to(self.root)
        return None

    def command(self, account: str | None, command: Sequence[object]) -> list[str]:
        user, group = self.owner(account) if account else (0, 0)
        return [
            *("unshare", "--mount", "--", "sh", "-c", self.ENTER, str(self.root), f"{user}:{group}"),
            *(str(part) for part in command),
        ]

    def run_as(self, account: str | None) -> dict[str, Any]:
        # Only root may enter the tree; the account follows there.
        return {}

    def owner(self, account: str) -> tuple[int, int]:
        for line in (self.root / "etc/passwd").read_text().splitlines():
            name, _, user, group, *_ = line.split(":")
            if name == account:
                return int(user), int(group)
        raise ServersMissingError(f"There is no account {account} in {self.root}.")


def chosen_programs() -> Machine:
    """Those that the environment names, or those of this machine."""
    root = os.environ.get(TREE_VARIABLE)
    return Tree(Path(root)) if root else Machine()


def find_program(name: str, *patterns: str) -> Path | None:
    """Find a program in the usual places of a package, newest version first, then on the PATH."""
    for pattern in patterns:
        found = sorted(glob(f"{pattern}/{name}"), key=_version_in, reverse=True)
        if found:
            return Path(found[0])
    on_path = shutil.which(name)
    return Path(on_path).resolve() if on_path else None


def _version_in(path: str) -> list[int]:
    return [int(part) for part in path.replace("@", "/").split("/") if part.isdigit()]


#: Below what systems give to outgoing connections: one of these could take the port before its server does.
PORTS = range(12_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback address that is free now."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def run_as(user: str) -> dict[str, Any]:
    """Arguments for :mod:`subprocess` that make a server run as its own user, where this process is root."""
    if os.getuid() != 0:
        return {}
    try:
        pwd.getpwnam(user)
    except KeyError:
        user = "nobody"
    group = pwd.getpwnam(user).pw_gid
    return {"user": user, "group": group, "extra_groups": []}
