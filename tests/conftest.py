"""Real servers as fixtures: one of each for the whole run, an empty database and virtual host for each test."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from relay.telemetry.logs.loggers import release_loggers
from relay.telemetry.logs.queue import QueuedHandler
from tests.support.broker import Broker
from tests.support.certificates import make_certificates
from tests.support.distribution import SlowestFirst, by_slowness
from tests.support.fuzzing import FACTOR
from tests.support.guardian import guardian
from tests.support.lending import LENDER_VARIABLE, Lender, borrow
from tests.support.marks import assert_may_start, forbid_servers, needs_servers
from tests.support.postgres import PrivatePostgres
from tests.support.prefork import fork_server
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.rewriting import keep_rewritten
from tests.support.servers import Postgres, RabbitMQ, acquire_postgres, acquire_rabbitmq

pytest_plugins = ["tests.support.time_limit"]

# A shell that starts the tests in the background has them ignore SIGINT, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more about the machine than about the code.
settings.register_profile(
    "signalbus", max_examples=40 * FACTOR, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("signalbus")


def pytest_configure(config: pytest.Config) -> None:
    """Where the tests run in several processes, these share one RabbitMQ, which takes seven seconds to start, and the
    rewritten tests."""
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        keep_rewritten(config)
        lender = Lender(acquire_rabbitmq)
        os.environ[LENDER_VARIABLE] = lender.address
        config.add_cleanup(lender.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays until the end: looking for garbage in it takes half of the time of collecting."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SlowestFirst | None:
    return SlowestFirst(config, log) if config.option.dist == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=by_slowness)
    for item in items:
        if needs_servers(item):
            item.add_marker("servers")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    forbid_servers(None if item.get_closest_marker("servers") else item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def _clear_up() -> Iterator[None]:
    yield
    fork_server.close()
    guardian.close()


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands that a test runs in this process set logging up, and the next test would see no line of it."""
    root, pika = logging.getLogger(), logging.getLogger("pika")
    levels, raises = (root.level, pika.level), logging.raiseExceptions
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, QueuedHandler)]:
        root.removeHandler(handler)
        handler.end()
    release_loggers()
    logging.captureWarnings(False)
    root.setLevel(levels[0])
    pika.setLevel(levels[1])
    logging.raiseExceptions = raises


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with acquire_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """A RabbitMQ that others use at the same time."""
    assert_may_start("RabbitMQ")
    if address := os.environ.get(LENDER_VARIABLE):
        yield borrow(address)
    else:
        with acquire_rabbitmq() as server:
            yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    with postgres.lend_database() as url:
        yield url


@pytest.fixture
def other_database_url(postgres: Postgres) -> Iterator[str]:
    with postgres.lend_database() as url:
        yield url


@pytest.fixture(scope="session")
def amqp_url(rabbitmq: RabbitMQ) -> str:
    """A virtual host of this process, where the node is ours. Tests use names of their own."""
    return rabbitmq.add_vhost() if isinstance(rabbitmq, PrivateRabbitMQ) else rabbitmq.url


@pytest.fixture
def empty_amqp_url(rabbitmq: RabbitMQ) -> str:
    """A virtual host of this test, where the node is ours; for exchanges and queues whose names are written down."""
    return rabbitmq.add_vhost() if isinstance(rabbitmq, PrivateRabbitMQ) else rabbitmq.url


@pytest.fixture
def broker(amqp_url: str) -> Iterator[Broker]:
    broker = Broker(amqp_url)
    yield broker
    broker.close()


@pytest.fixture
def private_postgres() -> Iterator[PrivatePostgres]:
    """A PostgreSQL that a test may break."""
    with PrivatePostgres() as server:
        yield server.start()


@pytest.fixture(scope="session")
def private_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ that a test may hold up, with TLS, and with little room for a message."""
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with PrivateRabbitMQ(tls=certificates, settings=["max_message_size = 100000"]) as server:
        yield server.start()
