"""The README, and what its reader types to install Signalbus."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def installation() -> list[str]:
    """The commands that make a virtual environment and install Signalbus there."""
    [block] = [block for block in blocks("console") if "pip install" in block]
    return [line.removeprefix("$ ") for line in block.splitlines()]


def install(directory: Path) -> None:
    """Type :func:`installation` in a directory."""
    checkout = directory / "signalbus"
    _copy(checkout)
    script = "\n".join(["set -e", *installation()]).replace("path/to/signalbus", str(checkout))
    # Of the dependencies, only what is imported is compiled, when it is imported.
    done = subprocess.run(
        ["env", "PIP_NO_COMPILE=1", "bash", "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    shutil.rmtree(checkout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def _included() -> list[str]:
    """The files beside the packages that the wheel has."""
    lines = (ROOT / "pyproject.toml").read_text().partition("targets.wheel.force-include]\n")[2].partition("\n\n")[0]
    return [line.split('"')[1] for line in lines.splitlines()]


def _copy(checkout: Path) -> None:
    """What belongs to the project, copied, so that building it leaves no trace."""
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "hatch_build.py", *_included()):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    for name in ("signalbus_core", "relay"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
