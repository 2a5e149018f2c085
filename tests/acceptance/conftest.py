"""An application of a user, in a directory of its own, and relays beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.proxy import FaultProxy
from tests.support.readme import install
from tests.support.shop import Shop, behind


@pytest.fixture
def shop(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Shop]:
    shop = Shop(tmp_path, database_url, broker)
    yield shop
    shop.close()


@pytest.fixture
def database_proxy(shop: Shop) -> Iterator[FaultProxy]:
    proxy, shop.environ["TEST_DATABASE_URL"] = behind(shop.environ["TEST_DATABASE_URL"])
    with proxy:
        yield proxy


@pytest.fixture
def broker_proxy(shop: Shop) -> Iterator[FaultProxy]:
    proxy, shop.environ["TEST_AMQP_URL"] = behind(shop.environ["TEST_AMQP_URL"])
    with proxy:
        yield proxy


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a virtual environment into which Signalbus was installed as the README says."""
    directory = tmp_path_factory.mktemp("installed")
    install(directory)
    return directory
