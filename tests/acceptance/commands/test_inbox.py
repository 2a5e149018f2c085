"""`signalbus-relay inbox clean` and `ddl inbox`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from sqlalchemy.orm import Session

from relay.cli import cli
from signalbus_core import inbox


def run(environ: Mapping[str, str], *arguments: str) -> Result:
    unset = dict.fromkeys(("DATABASE_URL", "SIGNALBUS_RELAY_DATABASE_URL", "SIGNALBUS_RELAY_DATABASE_URL_FILE"))
    return CliRunner().invoke(cli, arguments, env={**unset, **environ})


def test_clean_deletes_old_ids_of_table_that_ddl_made(database_url: str, tmp_path: Path) -> None:
    engine = sa.create_engine(database_url)
    missing = run({"DATABASE_URL": database_url}, "inbox", "clean")
    assert (missing.exit_code, "`signalbus-relay ddl inbox` creates it" in missing.stderr) == (1, True)
    named = 'sales."seen:%ids"'
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA sales"))
        for printed in (run({}, "ddl", "inbox").stdout, run({}, "ddl", "inbox", named).stdout):
            connection.exec_driver_sql(printed.replace("%", "%%"))
    table = inbox.table(sa.MetaData(schema="sales", info={"signalbus_inbox": "seen:%ids"}))
    with Session(engine) as session:
        for message_id in ("old", "new"):
            assert inbox.receive(session, message_id, "billing", table=table)
        session.execute(sa.update(table).where(table.c.message_id == "old").values(received_at=sa.text("'2020-01-01'")))
        session.commit()
    (tmp_path / "url").write_text(database_url)
    arguments = ("inbox", "clean", "--table", named, "--json")
    done = run({"SIGNALBUS_RELAY_DATABASE_URL_FILE": str(tmp_path / "url")}, *arguments)
    assert json.loads(done.stdout) == {"table": "sales.seen:%ids", "days": 30, "deleted": 1}, done.output
    again = run({}, "inbox", "clean", "--days", "1", "--database-url", database_url)
    assert again.stdout == "0 ids deleted that consumers received more than 1 days ago.\n"
    engine.dispose()


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "week", "", "36501", "nan"])
def test_days_that_are_none_are_refused(days: str) -> None:
    refused = run({"DATABASE_URL": "postgresql://127.0.0.1:1/no"}, "inbox", "clean", f"--days={days}")
    assert refused.exit_code == 2
    assert f"--days: a whole number from 1 to 36500 is expected, not {days!r}." in refused.stderr


@pytest.mark.parametrize(
    ("environ", "arguments", "told"),
    [
        ({}, (), "--database-url: which database?"),
        ({"DATABASE_URL": "mysql://u:secret@h/d"}, (), "DATABASE_URL: "),
        ({"SIGNALBUS_RELAY_DATABASE_URL_FILE": "/no/file"}, (), "the file cannot be read"),
        ({}, ("--table", "a.b.c"), "TABLE or SCHEMA.TABLE is expected"),
    ],
)
def test_wrong_usage_of_inbox_clean(environ: dict[str, str], arguments: tuple[str, ...], told: str) -> None:
    refused = run(environ, "inbox", "clean", *arguments)
    assert (refused.exit_code, told in refused.stderr) == (2, True), refused.stderr
    assert "secret" not in refused.output
