"""The real ``signalbus-relay check``, beside an application as its operators have it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.proxy import FaultProxy
    from tests.support.shop import Shop

#: What a server is given is 10 s; the rest is for the process on a loaded machine.
MOST_SECONDS = 90


def check(shop: Shop, *arguments: str) -> tuple[int, set[tuple[str, str]], str]:
    """The exit code, what was found by area and code, and all that was printed."""
    done = shop.command("check", "--json", *arguments)
    found: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {(one["area"], one["code"]) for one in found}, done.stdout + done.stderr


def test_it_tells_the_story_of_what_is_broken(shop: Shop, broker_proxy: FaultProxy, database_proxy: FaultProxy) -> None:
    code, found, output = check(shop, "--skip", "session")
    assert (code, ("broker", "area-fine") in found) == (0, True), output
    broker_proxy.refuse()
    code, found, output = check(shop, "--skip", "session")
    assert (code, ("broker", "broker-unreachable") in found) == (1, True), output
    broker_proxy.forward()
    broker_proxy.blackhole()
    database_proxy.blackhole()
    started = time.monotonic()
    code, found, output = check(shop)
    assert time.monotonic() - started < MOST_SECONDS
    assert code == 1
    assert {("session", "database-unreachable"), ("broker", "broker-unreachable")} <= found, output
    assert ("models", "area-fine") in found
    assert "Traceback" not in output
