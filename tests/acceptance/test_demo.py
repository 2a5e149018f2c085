"""`make demo`: the main job with real servers, and nothing left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]


def leftovers() -> list[str]:
    listing = subprocess.run(["ps", "-axww", "-o", "command="], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if "deploy.demo" in line and "pytest" not in line]


def port_mappers() -> int:
    """How many Erlang port mappers run; each node has one, which does not end with it by itself."""
    listing = subprocess.run(["ps", "-axww", "-o", "stat=,command="], capture_output=True, text=True, check=True).stdout
    return sum("epmd" in line and not line.startswith("Z") for line in listing.splitlines())


def directories() -> set[str]:
    places = {Path("/tmp"), Path(tempfile.gettempdir())}
    return {str(path) for place in places for path in place.glob("signalbus-*")}


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_loses_nothing_and_leaves_nothing_behind() -> None:
    before, mappers_before = directories(), port_mappers()
    demo = start_demo("--orders", "2000", "--relays", "3")
    output, _ = demo.communicate(timeout=180)
    assert demo.returncode == 0, output
    figures = dict(re.findall(r"^  ([a-z, 0-9]+?) {2,}([\d,.]+)", output, re.MULTILINE))
    assert figures["orders committed"] == "2,000"
    assert (figures["lost"], figures["phantom"]) == ("0", "0")
    assert int(figures["orders rolled back"].replace(",", "")) > 100
    assert int(figures["messages received"].replace(",", "")) >= 2000
    assert "was killed" in output
    assert "was started again" in output
    eventually(lambda: not leftovers())
    eventually(lambda: directories() <= before)
    eventually(lambda: port_mappers() <= mappers_before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_behind(number: signal.Signals) -> None:
    before, mappers_before = directories(), port_mappers()
    demo = start_demo("--orders", "1000000")
    assert demo.stdout is not None
    with demo.stdout:
        for line in demo.stdout:
            if "committed" in line:
                break
        demo.send_signal(number)
        output = demo.stdout.read()
    assert demo.wait(60) == 130, output
    eventually(lambda: not leftovers())
    eventually(lambda: directories() <= before)
    eventually(lambda: port_mappers() <= mappers_before)
