"""Packets that are dropped on this machine: in a table of its own, and only those of the addresses and ports named."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid

from .guardian import guardian


class RulesMissingError(Exception):
    """No packets can be dropped here; the message says what is missing."""


class DroppedPackets:
    """Drops what goes from or to addresses and TCP ports, on this machine, until it is closed.

    :raises RulesMissingError: this machine, or this user, cannot do that.
    """

    def __init__(self, addresses: list[str], ports: list[int]) -> None:
        if shutil.which("nft") is None:
            raise RulesMissingError("the program nft is missing (package nftables)")
        self._table = f"signalbus_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        rules = [f"ip {end} {address} drop" for address in addresses for end in ("saddr", "daddr")]
        rules += [f"tcp {end} {port} drop" for port in ports for end in ("sport", "dport")]
        chain = "chain output { type filter hook output priority 0; " + "; ".join(rules) + "; }"
        guardian.watch("nft", self._table)
        _nft(f"table ip {self._table} {{\n{chain}\n}}")

    def close(self) -> None:
        _nft(f"delete table ip {self._table}")
        guardian.release("nft", self._table)


def _nft(command: str) -> None:
    done = subprocess.run(["nft", command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RulesMissingError(f"nft {command}: {done.stderr.strip()}")
