"""What an orchestrator does to relays, done to real processes under load: rolled over and scaled, nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.processes import RelayProcess
from tests.support.shop import Shop
from tests.support.waiting import eventually

#: Signals of one transaction of the load.
SIGNALS = 20


@pytest.fixture
def shop(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Shop]:
    shop = Shop(tmp_path, database_url, broker)
    yield shop
    shop.close()


class Load:
    """A thread that writes signals, some hundred a second, while relays come and go."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="load")
        self.written = 0

    def _write(self) -> None:
        while not self._stop.wait(0.02):
            self._shop.write(self.written + 1, self.written + SIGNALS)
            self.written += SIGNALS

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()


def start(shop: Shop, count: int) -> list[RelayProcess]:
    relays = [shop.relay() for _ in range(count)]
    for relay in relays:
        relay.wait_ready(60)
    return relays


def stop(relays: list[RelayProcess]) -> None:
    for relay in relays:
        relay.terminate()
    assert [relay.wait(60) for relay in relays] == [0] * len(relays)


def sent_by(relay: RelayProcess) -> float:
    lines = relay.get("/metrics")[1].splitlines()
    return next(
        float(line.split()[1]) for line in lines if line.startswith('signalbus_signals_sent_total{signal="Order"')
    )


def roll_over(shop: Shop, relays: list[RelayProcess]) -> list[RelayProcess]:
    """One more is started before each of the old ones is stopped, as a rollout without unavailable replicas does it."""
    new = []
    for old in relays:
        new += start(shop, 1)
        stop([old])
    return new


def test_rollouts_under_load_lose_and_repeat_nothing(shop: Shop) -> None:
    load = Load(shop)
    relays = start(shop, 2)
    with load.running():
        for _ in range(2):
            relays = roll_over(shop, relays)
    shop.wait_until_sent(90)
    stop(relays)
    assert load.written > 0
    assert sorted(shop.received()) == list(range(1, load.written + 1))


def test_scaled_from_one_to_four_to_two_under_load_every_relay_works_and_nothing_is_lost(shop: Shop) -> None:
    load = Load(shop)
    relays = start(shop, 1)
    with load.running():
        relays += start(shop, 3)
        for relay in relays:
            eventually(lambda relay=relay: sent_by(relay) > 0, 60, "every relay sends")
        stop(relays[2:])
    shop.wait_until_sent(90)
    stop(relays[:2])
    assert sorted(shop.received()) == list(range(1, load.written + 1))
