"""Programs that check deployment files. Where one cannot be had on this machine, its tests say so in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import docker_answers

ROOT = Path(__file__).parents[2]


def program(name: str) -> str:
    """The path of a program: of this virtual environment, else of the machine."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not there: install the extra signalbus[deploy] or the program itself")
    return found


def compose_program() -> str:
    """Docker Compose of this virtual environment. One of the machine may be too old to print JSON."""
    if not Path(sys.executable).with_name("docker-compose").exists():
        pytest.skip("docker-compose is not there: install the extra signalbus[deploy]")
    return program("docker-compose")


def output_of(*command: str, environ: dict[str, str] | None = None, timeout_seconds: float = 60) -> str:
    """What a command prints; it has to end well."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (environ or {}),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


needs_engine = pytest.mark.skipif(
    not docker_answers(), reason="no Docker engine answers here: the image was not built and compose was not run"
)
