"""The how-to about migrations, word by word: Alembic makes tables, doorbell and settings, and unmakes them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from tests.support import prefork

ROOT = Path(__file__).parents[3]


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Path:
    """The shop of the README, with Alembic set up as the how-to says."""
    (tmp_path / "shop.py").write_text(snippets("README.md")[0])
    run(tmp_path, database_url, "alembic", "init", "migrations")
    settings = tmp_path / "alembic.ini"
    settings.write_text(re.sub(r"(?m)^sqlalchemy.url = .*", f"sqlalchemy.url = {database_url}", settings.read_text()))
    environment = tmp_path / "migrations" / "env.py"
    environment.write_text(environment.read_text().replace("target_metadata = None", snippets(PAGE)[0]))
    return tmp_path


PAGE = "docs/how-to/migrations.md"


def run(directory: Path, database_url: str, *command: str) -> str:
    environ = {"DATABASE_URL": database_url, "RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/"}
    done = prefork.run(command, os.environ | environ, directory)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        found = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        return set(found) - {"alembic_version"}


def doorbells(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM pg_trigger WHERE tgname = 'signalbus_doorbell'")) or 0)


def settings_of(engine: Engine, table: str) -> list[str]:
    with engine.connect() as connection:
        found = connection.scalar(text("SELECT reloptions FROM pg_class WHERE relname = :name"), {"name": table})
        return list(found or [])


def write_migration(project: Path, database_url: str, name: str, snippet: str) -> None:
    run(project, database_url, "alembic", "revision", "-m", name)
    [script] = (project / "migrations" / "versions").glob(f"*_{name}.py")
    identifiers = re.findall(r"(?m)^(?:down_)?revision.*", script.read_text())
    script.write_text("\n".join(["from typing import Sequence, Union", *identifiers, snippet]))


def test_alembic_makes_and_unmakes_everything(project: Path, database_url: str) -> None:
    engine = create_engine(database_url)
    page = (ROOT / PAGE).read_text()
    for command in ('alembic revision --autogenerate -m "orders and their signals"', "alembic upgrade head"):
        assert f"$ {command}\n" in page
    run(project, database_url, "alembic", "revision", "--autogenerate", "-m", "orders and their signals")
    write_migration(project, database_url, "doorbell", snippets(PAGE)[4])

    run(project, database_url, "alembic", "upgrade", "head")
    made = tables(engine)
    assert {"order", "order_placed", "signalbus_parked", "signalbus_paused"} <= made
    assert doorbells(engine) == 1
    for table in ("order_placed", "signalbus_parked"):
        assert "autovacuum_vacuum_scale_factor=0" in settings_of(engine, table)
    # Nothing is left to migrate: what the migration made is what the models say.
    run(project, database_url, "alembic", "check")

    run(project, database_url, "alembic", "downgrade", "-1")
    assert doorbells(engine) == 0
    assert tables(engine) == made
    run(project, database_url, "alembic", "upgrade", "head")
    assert doorbells(engine) == 1
    run(project, database_url, "alembic", "downgrade", "base")
    assert tables(engine) == set()
    engine.dispose()


def test_autogenerate_makes_and_unmakes_the_doorbells(project: Path, database_url: str) -> None:
    environment = project / "migrations" / "env.py"
    environment.write_text(snippets(PAGE)[1] + environment.read_text())
    engine = create_engine(database_url)
    run(project, database_url, "alembic", "revision", "--autogenerate", "-m", "all")
    run(project, database_url, "alembic", "upgrade", "head")
    assert doorbells(engine) == 1
    run(project, database_url, "alembic", "check")
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER signalbus_doorbell ON order_placed"))
    run(project, database_url, "alembic", "revision", "--autogenerate", "-m", "doorbell again")
    run(project, database_url, "alembic", "upgrade", "head")
    assert doorbells(engine) == 1
    run(project, database_url, "alembic", "downgrade", "-1")
    assert doorbells(engine) == 0
    run(project, database_url, "alembic", "downgrade", "base")
    assert tables(engine) == set()
    engine.dispose()


def test_alembic_adds_the_column_to_a_table_and_rewrites_nothing(project: Path, database_url: str) -> None:
    engine = create_engine(database_url)

    def ask(*statements: str) -> list[object]:
        with engine.begin() as connection:
            results = [connection.execute(text(statement)) for statement in statements]
            return [tuple(row) for row in results[-1]] if results[-1].returns_rows else []

    run(project, database_url, "alembic", "revision", "--autogenerate", "-m", "tables")
    run(project, database_url, "alembic", "upgrade", "head")
    file = "SELECT pg_relation_filenode('order_placed')"
    ask("ALTER TABLE order_placed DROP COLUMN signalbus_id", "INSERT INTO order_placed (order_id) VALUES (1)")
    before = ask(file)
    write_migration(project, database_url, "ids", snippets(PAGE)[3])
    run(project, database_url, "alembic", "upgrade", "head")
    assert ask(file) == before
    ask("INSERT INTO order_placed (order_id) VALUES (1)")
    assert ask("SELECT signalbus_id IS NULL FROM order_placed ORDER BY 1") == [(False,), (True,)]
    run(project, database_url, "alembic", "check")
    run(project, database_url, "alembic", "downgrade", "-1")
    run(project, database_url, "alembic", "upgrade", "head")
    engine.dispose()


def test_the_table_of_parked_signals_can_be_renamed_as_written() -> None:
    names: dict[str, object] = {}
    exec(snippets(PAGE)[2], names)  # noqa: S102 - the snippet is the documentation's
    from signalbus_core.rabbitmq import RabbitMQSignal

    db: object = names["db"]
    type("Renamed", (RabbitMQSignal, db.Model), {"id": db.Column(db.Integer, primary_key=True)})  # type: ignore[attr-defined]
    assert set(db.metadata.tables) == {"renamed", "parked_signals", "signalbus_paused", "signalbus_relays"}  # type: ignore[attr-defined]
