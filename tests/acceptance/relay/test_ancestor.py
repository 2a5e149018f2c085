"""An application that was written for flask_signalbus runs unchanged but for its imports."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.acceptance.relay.ancestor_application import APPLICATION
from tests.support import prefork
from tests.support.broker import Broker
from tests.support.processes import COMMAND

PAGE = (Path(__file__).parents[3] / "docs/how-to/adopt.md").read_text()


def adopted(application: str) -> str:
    """The application with its imports changed as the guide says."""
    [diff] = re.findall(r"^```diff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    lines = diff.splitlines()
    for line in lines:
        if line.startswith("-"):
            assert line[1:] in application
            application = application.replace(line[1:] + "\n", "")
    imports = "".join(f"{line[1:]}\n" for line in lines if line.startswith("+"))
    return application.replace("import pika\n", f"import pika\n{imports}", 1)


class Adopted:
    """The application, its database and its queue."""

    def __init__(self, directory: Path, database_url: str, broker: Broker) -> None:
        self.directory = directory
        self.broker = broker
        exchange = broker.exchange()
        self.queue = broker.queue(exchange)
        self.environ = {
            "TEST_DATABASE_URL": database_url,
            "TEST_AWAY_URL": re.sub(r":\d+/", ":1/", database_url),
            "PROTOCOL_BROKER_URL": broker.url,
            "TEST_EXCHANGE": exchange,
        }
        (directory / "accounts.py").write_text(adopted(APPLICATION))

    def load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in self.environ.items():
            monkeypatch.setenv(name, value)
        spec = importlib.util.spec_from_file_location("accounts", self.directory / "accounts.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.app: Flask = self.module.create_app()
        self.db = self.module.db
        with self.app.app_context():
            self.db.create_all(None)
            self.module.get_or_create_account(1, 2, "Ann")

    def execute(self, statement: str) -> Any:
        """In a transaction of somebody else's."""
        with self.app.app_context(), self.db.engine.begin() as connection:
            return connection.execute(sa.text(statement))

    def values(self, statement: str) -> list[Any]:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return list(connection.scalars(sa.text(statement)))

    def received(self) -> list[str]:
        return [message.text for message in self.broker.take_all(self.queue)]


@pytest.fixture(params=["psycopg2", "psycopg"])
def adopted_app(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database_url: str,
    broker: Broker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Adopted]:
    adopted_app = Adopted(tmp_path, database_url.replace("+psycopg2", f"+{request.param}"), broker)
    adopted_app.load(monkeypatch)
    yield adopted_app
    adopted_app.module.publisher.close()
    with adopted_app.app.app_context():
        adopted_app.db.engine.dispose()


def test_a_view_reads_before_an_atomic_block_and_shows_it_after(adopted_app: Adopted) -> None:
    adopted_app.execute("INSERT INTO note VALUES (1, 1, 2, 'first')")
    answer = adopted_app.app.test_client().get("/1/2")
    assert answer.json == {"owner": "Ann", "notes": 1, "texts": ["first"]}
    assert adopted_app.values("SELECT principal FROM account") == [1]


def test_view_changes_before_atomic_block_and_it_is_committed(adopted_app: Adopted) -> None:
    assert adopted_app.app.test_client().post("/1/2/hello").status_code == 200
    assert adopted_app.values("SELECT text FROM note") == ["hello"]
    assert adopted_app.values("SELECT principal FROM account") == [10]


def test_a_row_is_locked_before_an_atomic_block(adopted_app: Adopted) -> None:
    free = "SELECT debtor_id FROM account FOR UPDATE SKIP LOCKED"
    with adopted_app.app.app_context():
        adopted_app.module.get_account(1, 2, lock=True)
        assert adopted_app.db.execute_atomic(lambda: adopted_app.values(free)) == []
        assert adopted_app.values(free) == [1]


def test_what_a_block_returns_and_what_was_read_before_can_be_read_without_a_session(adopted_app: Adopted) -> None:
    with adopted_app.app.app_context():
        before = adopted_app.module.get_account(1, 2)
        returned = adopted_app.module.transfer(1, 2, 7)
        assert before not in adopted_app.db.session
    assert (before.owner, returned.principal, returned.last_change is None) == ("Ann", 7, False)


def test_a_block_whose_insert_was_overtaken_finds_the_row(adopted_app: Adopted) -> None:
    tries: list[int] = []

    def overtake() -> None:
        tries.append(1)
        if len(tries) == 1:
            adopted_app.execute(
                "INSERT INTO account (debtor_id, creditor_id, owner, principal) VALUES (3, 4, 'Bob', 0)"
            )

    with adopted_app.app.app_context():
        # The transaction, and with it what the first execution sees, is older than the block.
        adopted_app.module.get_account(1, 2)
        assert adopted_app.module.get_or_create_account(3, 4, "Ann", overtake).owner == "Bob"
    assert len(tries) == 2


def test_race_of_block_that_began_with_changes_is_caught_as_ever(adopted_app: Adopted) -> None:
    with adopted_app.app.app_context():
        account = adopted_app.module.get_account(1, 2)
        account.owner = "Cleo"
        adopted_app.execute("UPDATE account SET principal = 100")
        assert adopted_app.module.try_transfer(1, 2, 5) is None
    assert adopted_app.values("SELECT principal FROM account") == [100]
    assert adopted_app.values("SELECT owner FROM account") == ["Ann"]


def test_wrong_use_is_a_runtime_error(adopted_app: Adopted) -> None:
    with adopted_app.app.app_context():
        assert adopted_app.module.flush_or_complain([adopted_app.module.Account]) == "This is no signal."
    with pytest.raises(RuntimeError):
        adopted_app.db.init_app(adopted_app.app)


def test_bursts_of_5000_signals_with_three_key_columns_are_sent(adopted_app: Adopted) -> None:
    adopted_app.execute("INSERT INTO transfer_signal SELECT 1, 2, n, n FROM generate_series(1, 5001) n")
    with adopted_app.app.app_context():
        assert adopted_app.db.signalbus.flushmany() == 5001
    assert len(set(adopted_app.received())) == 5001
    assert adopted_app.values("SELECT transfer_number FROM transfer_signal") == []


def test_a_sender_of_its_own_sends_through_its_own_connection(adopted_app: Adopted) -> None:
    with adopted_app.app.app_context():
        adopted_app.db.session.add_all(adopted_app.module.PurgeSignal(reason=str(number)) for number in range(150))
        adopted_app.db.session.commit()
        models = [adopted_app.module.PurgeSignal]
        assert adopted_app.module.flush_or_complain(models) == 150
    assert sorted(adopted_app.received(), key=int) == [str(number) for number in range(150)]


def test_the_command_for_cron_is_silent_unless_it_sends(adopted_app: Adopted) -> None:
    runner = adopted_app.app.test_cli_runner()
    assert runner.invoke(args=["signalbus", "flushmany"]).output == ""
    adopted_app.execute("INSERT INTO transfer_signal VALUES (1, 2, 1, 5)")
    assert runner.invoke(args=["signalbus", "flushmany", "TransferSignal"]).output == "1 signal sent.\n"
    assert adopted_app.received() == ['{"amount": 5}']


def test_a_relay_takes_over(adopted_app: Adopted) -> None:
    adopted_app.execute("INSERT INTO transfer_signal SELECT 1, 2, n, n FROM generate_series(1, 300) n")
    adopted_app.execute("INSERT INTO purge_signal (reason) SELECT n::text FROM generate_series(1, 300) n")
    command = [COMMAND, "run", "--app", "accounts:create_app", "--until-empty", "--http", "off"]
    done = prefork.run(command, os.environ | adopted_app.environ, adopted_app.directory)
    assert done.returncode == 0, done.stderr
    assert len(set(adopted_app.received())) == 600
