"""`make demo`: the main job with real servers, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]


class Demo:
    """A run of the demo. What it starts is known by a mark in the environment, or by the demo's number in a path."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"demo-{uuid.uuid4().hex}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.demo", *arguments],
            cwd=ROOT,
            env=os.environ | {"SIGNALBUS_DEMO_MARK": self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def close(self) -> None:
        """End it, whatever it does; what it has started ends with it."""
        self.process.kill()

    def processes(self) -> list[str]:
        """All processes that the demo started and that run still, with their environment."""
        listing = subprocess.run(["ps", "axeww", "-o", "stat=,command="], capture_output=True, text=True, check=True)
        marks = (self.mark, f"/signalbus-{self.process.pid}-")
        return [
            line
            for line in listing.stdout.splitlines()
            if any(mark in line for mark in marks) and not line.startswith("Z")
        ]

    def directories(self) -> list[Path]:
        places = {Path("/tmp"), Path(tempfile.gettempdir())}
        return [path for place in places for path in place.glob(f"signalbus-{self.process.pid}-*")]

    def leaves_nothing_behind(self) -> bool:
        eventually(lambda: not self.processes(), 20)
        eventually(lambda: not self.directories(), 20)
        return True


def test_the_demo_loses_nothing_and_leaves_nothing_behind() -> None:
    demo = Demo("--orders", "2000", "--relays", "2")
    output, _ = demo.process.communicate(timeout=180)
    assert demo.process.returncode == 0, output
    figures = dict(re.findall(r"^  ([a-z, 0-9]+?) {2,}([\d,.]+)", output, re.MULTILINE))
    assert figures["orders committed"] == "2,000"
    assert (figures["lost"], figures["phantom"]) == ("0", "0")
    assert int(figures["orders rolled back"].replace(",", "")) > 100
    assert int(figures["messages received"].replace(",", "")) >= 2000
    assert "was killed" in output
    assert "was started again" in output
    assert demo.leaves_nothing_behind()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_demo_that_is_stopped_leaves_nothing_behind(number: signal.Signals) -> None:
    demo = Demo("--orders", "1000000")
    assert demo.process.stdout is not None
    with demo.process, demo.process.stdout as lines, contextlib.closing(demo):
        for line in lines:
            if "committed" in line:
                break
        # PostgreSQL, RabbitMQ with its port mapper, relays, customers.
        assert len(demo.processes()) > 6
        demo.process.send_signal(number)
        output = lines.read()
        code = demo.process.wait(60)
    assert code == (-9 if number == signal.SIGKILL else 130), output
    assert demo.leaves_nothing_behind()
