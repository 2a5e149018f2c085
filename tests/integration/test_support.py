"""The servers that tests start: private, and gone with their owner, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from tests.support.postgres import PrivatePostgres
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]

OWNER = """
import threading
from tests.support.postgres import PrivatePostgres
from tests.support.rabbitmq import PrivateRabbitMQ
from tests.support.rabbitmq import PrivateRabbitMQ
with PrivatePostgres() as postgres, PrivateRabbitMQ() as rabbitmq:
    postgres.start(), rabbitmq.start()
    print(postgres.directory, rabbitmq.directory, flush=True)
    print(postgres.port, rabbitmq.port, rabbitmq.epmd_port, flush=True)
    threading.Event().wait()
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processes_using(directory: str) -> list[str]:
    listing = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return [line for line in listing.stdout.splitlines() if directory in line]


def test_nothing_is_left_behind_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        directories = owner.stdout.readline().split()
        ports = [int(port) for port in owner.stdout.readline().split()]
        assert (len(directories), len(ports)) == (2, 3)
        assert all(listens(port) for port in ports)
        assert all(processes_using(directory) for directory in directories)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    eventually(lambda: not any(processes_using(directory) for directory in directories), 20)
    eventually(lambda: not any(os.path.exists(directory) for directory in directories), 20)
    eventually(lambda: not any(listens(port) for port in ports), 20)


def test_nothing_listens_after_a_node_was_closed() -> None:
    with PrivateRabbitMQ() as server:
        server.start()
        ports = [server.port, server.epmd_port]
        assert all(listens(port) for port in ports)
    assert not any(listens(port) for port in ports)


def test_a_killed_postgres_can_be_started_again_at_once() -> None:
    with PrivatePostgres() as server:
        server.start()
        for _ in range(2):
            server.kill9()
            server.start()
        assert server.execute("SELECT 1") == [(1,)]


def test_a_paused_postgres_does_not_answer_until_it_is_resumed() -> None:
    with PrivatePostgres() as server:
        server.start()
        server.pause()
        with pytest.raises(psycopg2.OperationalError, match="timeout"):
            psycopg2.connect(host="127.0.0.1", port=server.port, user="postgres", connect_timeout=2)
        server.resume()
        assert server.execute("SELECT 1") == [(1,)]
