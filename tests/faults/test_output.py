"""A relay whose log goes nowhere: nobody reads it, its disk is full, or standard error is closed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.guardian import guardian
from tests.support.processes import COMMAND
from tests.support.programs import free_port
from tests.support.shop import Shop
from tests.support.waiting import eventually


@pytest.fixture
def shop(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Shop]:
    shop = Shop(tmp_path, database_url, broker)
    yield shop
    shop.close()


class SilentRelay:
    """A relay whose log cannot tell a test anything; it is asked by HTTP.

    :param stderr: a file descriptor; None for a relay that is started without standard error.
    """

    def __init__(self, shop: Shop, stderr: int | None, *further: str) -> None:
        self._port = free_port()
        arguments = [
            "--app",
            "shop:create_app",
            "--poll-interval",
            "0.2",
            "--log-level",
            "DEBUG",
            "--log-format",
            "json",
        ]
        start = 'exec "$@"' if stderr is not None else 'exec "$@" 2>&-'
        self.process = subprocess.Popen(
            ["sh", "-c", start, "sh", COMMAND, "run", "--http", f"127.0.0.1:{self._port}", *arguments, *further],
            env=os.environ | shop.environ,
            cwd=shop.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        guardian.watch("group", self.process.pid)

    def __enter__(self) -> SilentRelay:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        guardian.release("group", self.process.pid)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def sends_and_stops(self, shop: Shop, signals: int) -> bool:
        """It does its work, answers, and ends when it is asked to."""
        shop.write(1, signals)
        shop.wait_until_sent(60)
        assert sorted(shop.received()) == list(range(1, signals + 1))
        assert self.get("/livez")
        eventually(lambda: f'sent_total{{signal="Order"}} {signals}.0' in self.get("/metrics"))
        self.process.terminate()
        assert self.process.wait(15) == 0
        return True


@contextlib.contextmanager
def small_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def test_a_log_that_nobody_reads_stops_nothing(shop: Shop) -> None:
    with small_pipe() as (reader, writer), SilentRelay(shop, writer) as relay:
        assert relay.sends_and_stops(shop, 5000)
        # The pipe is as full as it can be, with whole lines from the first one on.
        lines = os.read(reader, 65536).splitlines()
        assert sum(map(len, lines)) > 3000
        assert json.loads(lines[0])["action"] == "http_listening"


def test_relay_that_is_cut_short_ends_although_nobody_reads_log(shop: Shop) -> None:
    with small_pipe() as (_, writer), SilentRelay(shop, writer, "--drain-timeout", "0.2") as relay:
        shop.write(1, 2000)
        shop.wait_until_sent(60)
        with shop.paused("confirmed") as wait_for_relay:
            shop.write(2001, 2010)
            wait_for_relay()
            relay.process.terminate()
            assert relay.process.wait(15) == 3


def test_a_log_whose_reader_is_gone_stops_nothing(shop: Shop) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with SilentRelay(shop, writer) as relay:
            assert relay.sends_and_stops(shop, 500)
    finally:
        os.close(writer)


def test_a_full_disk_stops_nothing(shop: Shop) -> None:
    with Path("/dev/full").open("w") as full, SilentRelay(shop, full.fileno()) as relay:
        assert relay.sends_and_stops(shop, 500)


def test_a_relay_without_standard_error_works_as_any_other(shop: Shop) -> None:
    with SilentRelay(shop, None) as relay:
        assert relay.sends_and_stops(shop, 500)
