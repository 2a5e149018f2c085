"""Which tests need servers. All others are run by ``make test ARGS="-m 'not servers'"``, which starts none.

A server refuses to start for a test that has no such mark, also in a process that the test has started. So a test that
needs one cannot be overlooked here.
"""

from __future__ import annotations

import os

import pytest

#: Fixtures that start a server, or are given one; what is built on them is known to pytest.
FIXTURES = {"postgres", "rabbitmq", "private_postgres", "private_rabbitmq", "world"}

#: Modules of the tests' support that a test module imports to start servers itself.
STARTERS = {
    f"tests.support.{name}"
    for name in ("browser", "cluster", "pgbouncer", "postgres", "prometheus", "rabbitmq", "standby")
}

#: What is tested here are real processes, and a broker beside the one that stands in for it.
FOLDERS = ("tests/acceptance/", "tests/contract/")

#: Names the test for which no server may start.
FORBIDDEN_VARIABLE = "SIGNALBUS_TEST_WITHOUT_SERVERS"


def needs_servers(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return (
        item.nodeid.startswith(FOLDERS)
        or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or any(getattr(value, "__module__", None) in STARTERS for value in vars(module).values())
    )


def forbid_servers(test: str | None) -> None:
    """Let no server start for this test; None: let servers start."""
    if test is None:
        os.environ.pop(FORBIDDEN_VARIABLE, None)
    else:
        os.environ[FORBIDDEN_VARIABLE] = test


def assert_may_start(server: str) -> None:
    test = os.environ.get(FORBIDDEN_VARIABLE)
    assert test is None, f"{test} starts {server}, and has no mark `servers`: see tests/support/marks.py"
