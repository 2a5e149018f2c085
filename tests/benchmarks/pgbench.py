"""``pgbench``: what PostgreSQL does by itself, and the producers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support.postgres import PLACES
from tests.support.programs import find_program

from .world import World

CLAIM_AND_DELETE = """
WITH taken AS MATERIALIZED (SELECT id FROM signal_0 ORDER BY id LIMIT {burst} FOR UPDATE SKIP LOCKED)
DELETE FROM signal_0 WHERE id IN (SELECT id FROM taken) RETURNING id, body;
"""

PRODUCE = "INSERT INTO {table} (id, body) VALUES (nextval('produced'), repeat('x', 200));\n"


def claim_and_delete(world: World, count: int, burst: int, clients: int) -> float:
    """Signals a second that PostgreSQL gives out and deletes in bursts, when nothing is done with them."""
    each = max(1, count // burst // clients)
    rate = _run(world, CLAIM_AND_DELETE.format(burst=burst), "-c", str(clients), "-t", str(each))
    return rate * burst


def produce(world: World, table: str, clients: int, seconds: float) -> float:
    """Commits a second of producers that write one signal in each transaction."""
    return _run(world, PRODUCE.format(table=table), "-c", str(clients), "-j", "2", "-T", str(max(1, round(seconds))))


def _run(world: World, script: str, *arguments: str) -> float:
    """Transactions a second."""
    path = world.directory / "script.sql"
    path.write_text(script)
    url = world.database_url.replace("+psycopg2", "")
    done = subprocess.run(
        [_program(), "-n", "-M", "prepared", "-f", path, *arguments, url],
        env={"PATH": os.environ["PATH"], "PGAPPNAME": "producer"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^tps = ([\d.]+) \(without", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise RuntimeError(f"pgbench failed:\n{done.stdout}{done.stderr}")
    return float(found[1])


def _program() -> Path:
    program = find_program("pgbench", *PLACES)
    if program is None:
        raise RuntimeError("pgbench is not installed. It comes with the server's package, or postgresql-contrib.")
    return program
