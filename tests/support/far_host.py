"""A host at the other end of a cable that a test can pull: nothing is refused, reset or closed then, it is just silent.

The host is a network namespace that lives as long as a process of its own, and the cable is a veth pair that goes with
it. So nothing is left behind, however the test ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from urllib.parse import urlsplit

from .guardian import guardian
from .proxy import FaultProxy
from .waiting import eventually

CLONE_NEWNET = 0x40000000


class NamespacesMissingError(Exception):
    """Network namespaces cannot be made here; the message says what is missing."""


class FarHost:
    """Has the ports of servers of this machine, until its cable is pulled.

    :raises NamespacesMissingError: this machine, or this user, cannot have one.
    """

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise NamespacesMissingError("network namespaces exist on Linux only")
        for program, package in (("ip", "iproute2"), ("unshare", "util-linux"), ("nsenter", "util-linux")):
            if shutil.which(program) is None:
                raise NamespacesMissingError(f"the program {program} is missing (package {package})")
        self._stack = contextlib.ExitStack()
        try:
            self._pid = self._start_namespace()
            self._lay_cable()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FarHost:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def having(self, url: str) -> str:
        """The URL of a server of this machine, as one of the far host's."""
        parts = urlsplit(url.replace("+psycopg2", ""))
        assert parts.hostname is not None
        assert parts.port is not None
        listener = self._stack.enter_context(self._listen())
        self._stack.enter_context(FaultProxy(parts.hostname, parts.port, listener))
        return url.replace(f"{parts.hostname}:{parts.port}", f"{self.address}:{listener.getsockname()[1]}")

    def pull_cable(self) -> None:
        self._ip_there("link", "set", self._there, "down")

    def plug_cable(self) -> None:
        self._ip_there("link", "set", self._there, "up")

    def _start_namespace(self) -> int:
        holder = self._stack.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "sleep", "infinity"],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        guardian.watch("group", holder.pid)
        self._stack.callback(guardian.release, "group", holder.pid)
        self._stack.callback(holder.kill)
        eventually(lambda: holder.poll() is not None or _network_of(holder.pid) != _network_of(os.getpid()))
        if holder.poll() is not None:
            assert holder.stderr is not None
            raise NamespacesMissingError(f"no right to make a network namespace ({holder.stderr.read().strip()})")
        return holder.pid

    def _lay_cable(self) -> None:
        number = uuid.uuid4().int
        # Of the range for tests of networks, RFC 2544; four addresses belong to the cable.
        network = (number % 2**15) * 4
        prefix, last = f"198.{18 + network // 2**16}.{network // 256 % 256}", network % 256
        here, self._there = f"sb{number % 16**8:08x}h", f"sb{number % 16**8:08x}t"
        self.address = f"{prefix}.{last + 2}"
        mac = f"02:{number % 256:02x}:{number // 256 % 256:02x}:{number // 2**16 % 256:02x}:00:02"
        peer = ("peer", "name", self._there, "address", mac, "netns", str(self._pid))
        self._ip("link", "add", here, "type", "veth", *peer)
        self._stack.callback(self._ip, "link", "delete", here)
        self._ip("address", "add", f"{prefix}.{last + 1}/30", "dev", here)
        self._ip("link", "set", here, "up")
        # Known for good: else the kernel would find out by itself that nobody is there, and tell.
        self._ip("neighbour", "replace", self.address, "lladdr", mac, "dev", here, "nud", "permanent")
        self._ip_there("address", "add", f"{self.address}/30", "dev", self._there)
        self.plug_cable()

    def _listen(self) -> socket.socket:
        """A socket that listens on the far host; the thread that goes there to open it does not come back."""
        opened: list[socket.socket] = []

        def listen() -> None:
            with open(f"/proc/{self._pid}/ns/net") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            opened.append(socket.create_server((self.address, 0)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        return opened[0]

    def _ip_there(self, *arguments: str) -> None:
        self._ip(*arguments, prefix=("nsenter", "--target", str(self._pid), "--net"))

    def _ip(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        done = subprocess.run([*prefix, "ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NamespacesMissingError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _network_of(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")
