"""Settings in connection parameters that the server rejects are no outage: the relay ends with the reason."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, make_url

from relay.application.connection_parameters import rejected_settings
from relay.cli import cli


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("-c nosuch=1", 'parameter "nosuch"'),
        ("-c statement_timeout=soon", 'parameter "statement_timeout"'),
        ("-c search_path=elsewhere", None),
    ],
)
def test_settings_are_told_from_outages(database_url: str, driver: str, options: str, reason: str | None) -> None:
    url = make_url(database_url).set(drivername=f"postgresql+{driver}", query={"options": options})
    found = rejected_settings(create_engine(url))
    assert (found is None) == (reason is None)
    assert reason is None or reason in (found or "")
    # Nobody answers there, and this login is refused whatever the settings are.
    assert rejected_settings(create_engine(url.set(port=1))) is None
    assert rejected_settings(create_engine(url.set(username="nobody_of_this_name"))) is None


def test_table_mode_ends_at_once(database_url: str) -> None:
    url = make_url(database_url).update_query_dict({"options": "-c nosuch=1"}).render_as_string(hide_password=False)
    arguments = ["--database-url", url, "--amqp-url", "amqp://h", "--http", "off"]
    done = CliRunner().invoke(cli, ["run", "--table", "outbox", *arguments])
    assert done.exit_code == 2, done.output
    assert "The URL of the database cannot be used" in done.output
    assert "nosuch" in done.output
