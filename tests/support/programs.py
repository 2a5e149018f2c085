"""Where the server programs of this machine are, and as whom they run."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
from glob import glob
from pathlib import Path
from typing import Any

INSTALL_HINT = (
    "Run `make setup`, which installs it where it can; or start a Docker engine; or set "
    "SIGNALBUS_TEST_DATABASE_URL and SIGNALBUS_TEST_AMQP_URL."
)


class ServersMissingError(Exception):
    """There is no server to be had; the message says what to install or to run."""


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


def give_to(user: str, directory: Path) -> None:
    """Make a directory and all in it belong to the user that :func:`run_as` runs as."""
    if os.getuid() != 0:
        return
    owner = run_as(user)["user"]
    entry = pwd.getpwnam(owner)
    for path in (directory, *directory.rglob("*")):
        os.chown(path, entry.pw_uid, entry.pw_gid)
