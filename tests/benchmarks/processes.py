"""The processor time and memory of trees of processes, as the kernel counts them."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

PROC = Path("/proc")


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor time of these processes and all below them; that of children that have ended is with their parents."""
    return sum(_times(pid) for pid in tree(roots))


def peak_memory(roots: Iterable[int]) -> float:
    """The most memory, in MiB, that the processes (without those below them) have had at a time."""
    return sum(_status(pid, "VmHWM") for pid in roots) / 1024


def tree(roots: Iterable[int]) -> set[int]:
    """These processes and all below them."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _times(pid: int) -> float:
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def _status(pid: int, name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+)", (PROC / str(pid) / "status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


def processor() -> str:
    """The processor of this machine."""
    found = re.search(r"^model name\s*:\s*(.+)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
    return f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores"


def memory_gib() -> float:
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
