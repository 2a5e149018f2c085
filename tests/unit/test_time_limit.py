"""A test that does not end fails, and so does a process that does not end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: What never ends, and a thread that the interpreter waits for.
TESTS = """
import threading

import pytest

never = threading.Event()


@pytest.fixture
def slow_to_make():
    never.wait()


@pytest.fixture
def slow_to_clear_up():
    yield
    never.wait()


def test_set_up(slow_to_make):
    pass


def test_teardown(slow_to_clear_up):
    pass


def test_call():
    never.wait()


def test_a_thread_that_is_left():
    threading.Thread(target=never.wait, name="left over").start()
"""

#: A loop that catches whatever is raised in it.
DEAF = """
import threading


def test_deaf():
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            continue
"""

RUN = """
import sys

import pytest

from tests.support import time_limit

time_limit.LIMIT_SECONDS, time_limit.AGAIN_SECONDS = 0.5, 0.2
time_limit.GRACE_SECONDS = time_limit.ENDING_SECONDS = 1.5
code = pytest.main([sys.argv[1], "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
                    "-p", "no:schemathesis", "-p", "no:anyio", "-p", "no:xdist"], plugins=[time_limit])
print("code", int(code), flush=True)
"""


def test_whatever_does_not_end_is_ended_with_the_stacks_of_all_threads(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS)
    assert "E.EF." in done.stdout, done.stdout
    for phase in (
        "set-up of test_it.py::test_set_up",
        "teardown of test_it.py::test_teardown",
        "test_it.py::test_call",
    ):
        assert phase in done.stdout, done.stdout
    assert "code 1" in done.stdout
    assert "Thread MainThread" in done.stdout
    assert "threading.py" in done.stderr, "the thread that was left over"
    assert done.returncode == 1


def test_a_test_that_catches_everything_ends_with_its_process(tmp_path: Path) -> None:
    done = run(tmp_path, DEAF)
    assert (done.returncode, "code" in done.stdout) == (1, False)
    assert "test_deaf" in done.stderr


def run(directory: Path, tests: str) -> subprocess.CompletedProcess[str]:
    path = directory / "test_it.py"
    path.write_text(tests)
    return subprocess.run(
        [sys.executable, "-c", RUN, path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
