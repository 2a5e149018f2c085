"""`signalbus-relay drill`: it proves the promise, sees when it is broken, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import IO

import pika
import pytest
import sqlalchemy as sa
from pika.exceptions import ChannelClosedByBroker

from tests.support.guardian import guardian
from tests.support.processes import COMMAND
from tests.support.waiting import eventually


class Drill:
    """A drill in a process of its own. What it starts is known by a mark in the environment."""

    def __init__(self, database_url: str, amqp_url: str, *arguments: str) -> None:
        self.database_url, self.amqp_url = database_url, amqp_url
        self.mark = f"drill-{uuid.uuid4().hex}"
        environ = {"DATABASE_URL": database_url.replace("+psycopg2", ""), "AMQP_URL": amqp_url}
        # What is meant for the user's own relays must not lead those of the drill astray.
        astray = {"SIGNALBUS_RELAY_AMQP_URL": "amqp://127.0.0.1:1", "SIGNALBUS_RELAY_SIGNALS": "Order"}
        self.process = subprocess.Popen(
            [COMMAND, "drill", *arguments],
            env=os.environ | environ | astray | {"DRILL_MARK": self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        guardian.watch("group", self.process.pid)
        assert self.process.stdout is not None
        self.stdout: IO[str] = self.process.stdout

    def __enter__(self) -> Drill:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()
        # A drill that does not keep its word must not leave its relays to this machine.
        for pid in self.relays():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        guardian.release("group", self.process.pid)

    def read_until(self, text: str) -> str:
        """Read its output up to a line with this text; return the line."""
        for line in self.stdout:
            if text in line:
                return line
        assert self.process.stderr is not None
        raise AssertionError(f"{text!r} was never said: {self.process.stderr.read()}")

    def read_name(self) -> str:
        return self.read_until("Table, exchange and queue: ").split()[-1]

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit code, the rest of its output, and its errors."""
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output, errors

    def relays(self) -> list[int]:
        """Its relay processes that run still."""
        listing = subprocess.run(
            ["ps", "axeww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True
        )
        fields = [line.split(None, 2) for line in listing.stdout.splitlines() if self.mark in line]
        return [int(pid) for pid, state, command in fields if "relay.cli" in command and not state.startswith("Z")]

    def traces(self, name: str) -> set[str]:
        """What is left of it on the servers."""
        found = set()
        engine = sa.create_engine(self.database_url, poolclass=sa.NullPool)
        questions = {
            "table": "SELECT count(*) FROM pg_class WHERE starts_with(relname, 'signalbus')",
            "function": "SELECT count(*) FROM pg_proc WHERE starts_with(proname, :name)",
            "session": "SELECT count(*) FROM pg_stat_activity WHERE starts_with(application_name, :name)",
        }
        with engine.connect() as connection:
            for trace, question in questions.items():
                if connection.scalar(sa.text(question), {"name": name} if ":name" in question else {}):
                    found.add(trace)
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.amqp_url))) as broker:
            for trace in ("queue", "exchange"):
                with contextlib.suppress(ChannelClosedByBroker):
                    getattr(broker.channel(), f"{trace}_declare")(name, passive=True)
                    found.add(trace)
        return found

    def leaves_nothing_behind(self, name: str) -> bool:
        eventually(lambda: not self.relays(), 20)
        eventually(lambda: not self.traces(name), 20)
        return True


def test_a_drill_breaks_much_and_loses_nothing(database_url: str, empty_amqp_url: str) -> None:
    with Drill(database_url, empty_amqp_url, "--seconds", "8", "--signals", "1500", "--inbox") as drill:
        name = drill.read_name()
        code, output, errors = drill.end()
        assert code == 0, output + errors
        figures = {
            label: int(figure.replace(",", ""))
            for label, figure in re.findall(r"^  ([a-z ,]+?) {2,}([\d,]+)\b(?!\.)", output, re.MULTILINE)
        }
        assert [figures[word] for word in ("lost", "late", "phantom", "inversions", "early")] == [0] * 5
        assert figures["of these, in order by key"] > 100
        assert figures["of these, scheduled"] > 100
        assert figures["signals committed"] > 500
        assert figures["messages received"] - figures["duplicates"] >= figures["signals committed"]
        assert figures["signals rolled back"] > 0
        assert figures["effects"] >= figures["signals committed"]
        assert [figures[f"effects {word}"] for word in ("missing", "repeated", "phantom")] == [0, 0, 0]
        assert "consumer killed: " in output
        faults = [label for label in figures if label.startswith(("relay ", "database ", "broker "))]
        assert len(faults) >= 3, output
        assert "longest recovery" in output
        assert "Nothing lost, nothing invented." in output
        assert drill.leaves_nothing_behind(name)


def test_an_interrupted_drill_leaves_nothing_behind(database_url: str, empty_amqp_url: str) -> None:
    with Drill(database_url, empty_amqp_url, "--seconds", "600", "--relays", "1") as drill:
        name = drill.read_name()
        drill.read_until("committed")
        assert drill.relays()
        assert drill.traces(name)
        drill.process.send_signal(signal.SIGINT)
        code, _, errors = drill.end()
        assert (code, errors) == (1, "signalbus-relay: Interrupted; everything that was made has been removed.\n")
        assert drill.leaves_nothing_behind(name)


def test_relays_end_with_drill_killed_and_next_one_tells(database_url: str, empty_amqp_url: str) -> None:
    with Drill(database_url, empty_amqp_url, "--seconds", "600", "--relays", "2") as drill:
        name = drill.read_name()
        drill.read_until("committed")
        paused = eventually(drill.relays)[0]
        if sys.platform == "linux":
            with contextlib.suppress(ProcessLookupError):
                os.kill(paused, signal.SIGSTOP)
        drill.process.kill()
        eventually(lambda: not drill.relays(), 20)
    eventually(lambda: drill.traces(name) == {"table", "function", "queue", "exchange"}, 20)
    with Drill(database_url, empty_amqp_url) as following:
        line = following.read_until("Left over")
        assert line == f'Left over from an earlier drill: table {name} (drop it with: DROP TABLE IF EXISTS "{name}";)\n'
        following.process.send_signal(signal.SIGTERM)
        assert following.end()[0] == 1


def test_servers_out_of_reach_are_named_in_one_line_each() -> None:
    database_url, amqp_url = "postgresql://user:secret@127.0.0.1:1/shop", "amqp://user:secret@127.0.0.1:1/shop"
    with Drill(database_url, amqp_url) as drill:
        code, output, errors = drill.end()
    assert (code, output) == (2, "")
    first, second = errors.splitlines()
    assert first.startswith("signalbus-relay: The database cannot be used: ")
    assert second.startswith("signalbus-relay: The broker cannot be used: ")
    assert "secret" not in errors


@pytest.fixture
def thief(empty_amqp_url: str) -> Iterator[pika.BlockingConnection]:
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(empty_amqp_url))) as connection:
        yield connection


def test_stolen_and_invented_messages_are_found(
    database_url: str, empty_amqp_url: str, thief: pika.BlockingConnection
) -> None:
    with Drill(database_url, empty_amqp_url, "--seconds", "3", "--signals", "600", "--json") as drill:
        assert drill.process.stderr is not None
        for line in drill.process.stderr:
            if "Table, exchange and queue: " in line:
                break
        name = line.split()[-1]
        stolen = set()
        eventually(lambda: "queue" in drill.traces(name), 20)
        channel = thief.channel()
        channel.basic_qos(prefetch_count=1)
        for delivery, _, body in channel.consume(name, inactivity_timeout=1):
            if body is not None:
                channel.basic_ack(delivery.delivery_tag)
                stolen.add(int(body))
            if len(stolen) == 10 or drill.process.poll() is not None:
                break
        channel.cancel()
        channel.basic_publish(name, "", b"123456789")
        code, output, errors = drill.end()
        assert code == 1, output + errors
        outcome = json.loads(output)
        assert not outcome["good"]
        assert set(outcome["lost_numbers"]) <= stolen
        assert outcome["lost"] == len(outcome["lost_numbers"]) > 0
        assert outcome["phantom_numbers"] == [123456789]
        assert drill.leaves_nothing_behind(name)
