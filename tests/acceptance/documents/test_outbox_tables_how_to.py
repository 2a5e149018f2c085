"""docs/how-to/outbox-tables.md, word by word: shops in SQL and Node.js, and a relay without an application."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pytest

from relay.application.load import AMQP_FALLBACKS
from relay.cli import cli
from relay.config.resolve import RelayConfig, resolve
from tests.support.broker import Broker
from tests.support.node import node_environment
from tests.support.postgres import PLACES
from tests.support.prefork import stand_ins
from tests.support.programs import find_program

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "outbox-tables.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


def prepared(command: str, database_url: str, amqp_url: str) -> str:
    command = re.sub(r"^(export DATABASE_URL)=.*", rf"\1={database_url}", command)
    command = re.sub(r"^(export AMQP_URL)=.*", rf"\1={amqp_url}", command)
    if command.endswith(" &"):
        # What the reader does without being told: wait until the relay has begun, and stop it in the end.
        return (
            "trap 'kill $relay; wait $relay' EXIT\n"
            f"{command.removesuffix('&')} --http 127.0.0.1:0 > relay.log 2>&1 & relay=$!\n"
            "timeout 60 sh -c 'until grep -q action=started relay.log; do sleep 0.1; done'"
        )
    if command.startswith("signalbus-relay parked"):
        empty = 'test "$(psql "$DATABASE_URL" -At -c "SELECT count(*) FROM orders_outbox")" = 0'
        return f"timeout 60 sh -c 'until {empty}; do sleep 0.1; done'\n{command}"
    return command


def run_page(directory: Path, listed: list[str], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    psql = find_program("psql", *PLACES)
    assert psql is not None, "psql comes with PostgreSQL"
    programs = stand_ins(directory / "programs")
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), str(psql.parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", "\n".join(["set -e -o pipefail", *listed])],
        cwd=directory,
        env=os.environ | environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_shops_in_sql_and_node_are_relayed_as_the_page_says(
    tmp_path: Path, database_url: str, empty_amqp_url: str
) -> None:
    shutil.copytree(ROOT / "deploy" / "examples", tmp_path / "deploy" / "examples")
    node = node_environment()
    url = database_url.replace("+psycopg2", "")
    listed = [
        prepared(command, url, empty_amqp_url) for command in commands() if node or not command.startswith("node ")
    ]
    broker = Broker(empty_amqp_url)
    with broker.channel as channel:
        channel.exchange_declare("orders", exchange_type="topic", durable=True)
    queue = broker.queue("orders", "order.placed")
    done = run_page(tmp_path, listed, node or {})
    log = (tmp_path / "relay.log").read_text() if (tmp_path / "relay.log").exists() else ""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert "No signal has failed." in done.stdout
    received = sorted(broker.take_all(queue), key=lambda message: int(json.loads(message.body)["order_id"]))
    broker.delete_exchange("orders")
    broker.close()
    assert {message.properties.type for message in received} == {"OrderPlaced"}
    writers = Counter((message.properties.headers or {})["written-by"] for message in received)
    items = [json.loads(message.body) for message in received]
    expected = ["tea", "coffee", "cocoa"] if node else ["tea"]
    assert items == [{"order_id": number, "item": item} for number, item in enumerate(expected, start=1)]
    assert [message.properties.correlation_id for message in received] == [
        f"order-{number}" for number in range(1, len(expected) + 1)
    ]
    assert writers["psql"] == 1
    if node is None:
        pytest.skip("The shop in SQL was relayed; for the one in Node.js, node or its package pg is missing.")
    assert writers["node"] == 2


def configured(line: str) -> RelayConfig:
    run = cli.commands["run"]
    context = run.make_context("run", shlex.split(line)[2:])
    assert isinstance(context, click.Context)
    environ = {"DATABASE_URL": "postgres://h/d", "AMQP_URL": "amqp://h"}
    return resolve(context.params, environ, broker_variables=AMQP_FALLBACKS)


def test_the_options_that_the_page_shows_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [toml] = blocks("toml")
    (tmp_path / "tables.toml").write_text(toml)
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("signalbus-relay run")]
    if sys.version_info < (3, 11):
        lines.remove("signalbus-relay run --tables tables.toml")
    named = [[str(rules.name) for rules in configured(line).table_rules] for line in lines]
    assert named[:5] == [["sales.messages"], ["outbox"], ["outbox"], ["eventuate.message"], ["outboxevent"]]
    if sys.version_info >= (3, 11):
        assert named[5] == ["orders_outbox", "sales.messages", "outboxevent", "jobs", "moves"]


def test_the_environment_that_the_page_shows_is_understood() -> None:
    environ = dict(line.split("=", 1) for line in blocks("sh")[-1].splitlines())
    config = resolve({}, environ, read_file=lambda path: {"amqp": "amqp://h", "data": "postgres://h/d"}[path[13:17]])
    assert [str(name) for name in config.table_names] == ["orders_outbox", "sales.messages"]
    assert (config.database_url, config.amqp_url) == ("postgresql+psycopg2://h/d", "amqp://h")
