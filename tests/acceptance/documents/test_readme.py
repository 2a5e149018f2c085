"""The README's five minutes, word by word, in an empty directory."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import psycopg2
import pytest

from tests.support import prefork
from tests.support.readme import blocks, commands, installation

#: Run by other tests, or as part of running these.
ELSEWHERE = {"make demo"}


def test_the_five_minutes_work_as_written(
    tmp_path: Path, installed: Path, database_url: str, empty_amqp_url: str, broker: object
) -> None:
    directory = tmp_path / "empty"
    directory.mkdir()
    (directory / "shop.py").write_text(blocks("python")[0])
    script = ["set -e", f"cd {installed}", ". .venv/bin/activate", f"cd {directory}"]
    assert script[2] in installation()
    for command in commands():
        if command in {*ELSEWHERE, *installation()}:
            continue
        command = re.sub(r"^(export DATABASE_URL)=.*", rf"\1={database_url}", command)
        command = re.sub(r"^(export RABBITMQ_URL)=.*", rf"\1={empty_amqp_url}", command)
        if command.endswith(" &"):
            # What the reader does without being told: wait until the relay has begun, and stop it in the end.
            command = (
                "trap 'kill $relay; wait $relay' EXIT\n"
                f"{command.removesuffix('&')} > relay.log 2>&1 & relay=$!\n"
                "timeout 120 sh -c 'until grep -q action=started relay.log; do sleep 0.1; done'"
            )
        if "inbox" in command:
            command = f"timeout 120 sh -c 'until {command} | tee inbox.txt | grep order_id; do sleep 0.1; done'"
        script.append(command)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=directory, capture_output=True, text=True, timeout=900, check=False
    )
    log = (directory / "relay.log").read_text() if (directory / "relay.log").exists() else ""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    assert "Order 1 is placed." in done.stdout
    assert re.fullmatch(r'[0-9a-f-]{36}: \{"order_id": 1\}\n', (directory / "inbox.txt").read_text())
    assert '"ready": true' in done.stdout
    assert 'signalbus_signals_sent_total{signal="OrderPlaced"} 1.0' in done.stdout
    assert "OrderPlaced  0" in done.stdout
    assert "signals sent." not in done.stdout
    with psycopg2.connect(database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM order_placed")
        assert cursor.fetchone() == (0,)
    connection.close()


def test_the_other_snippets_are_python_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = blocks("python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(first)
    for snippet in others:
        ast.parse(snippet)
        done = prefork.run(["python", "-c", snippet], os.environ, tmp_path)
        assert done.returncode == 0, done.stderr
    assert len(others) == 2
