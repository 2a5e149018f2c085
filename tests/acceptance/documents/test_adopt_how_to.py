"""The how-to about taking over an outbox: a model in the old style is sent, and a message without a queue stays."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from signalbus_core.failures import is_outage_error
from tests.support import prefork
from tests.support.broker import Broker

PAGE = (Path(__file__).parents[3] / "docs/how-to/adopt.md").read_text()


def snippets() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def python(directory: Path, code: str, database_url: str, broker: Broker) -> str:
    done = prefork.run(
        ["python", "-c", f"from transfers import *\nwith app.app_context():\n    {code}"],
        os.environ | {"DATABASE_URL": database_url, "RABBITMQ_URL": broker.url},
        directory,
        timeout=60,
    )
    return done.stdout.strip() + done.stderr


def test_a_model_in_the_old_style_works_unchanged(tmp_path: Path, database_url: str, broker: Broker) -> None:
    snippet, _ = snippets()
    exchange = broker.exchange()
    (tmp_path / "transfers.py").write_text(snippet.replace('"transfers"', repr(exchange)))

    def run(code: str) -> str:
        return python(tmp_path, code, database_url, broker)

    write = "db.session.add_all([TransferSignal(amount=n) for n in (1, 2)]); db.session.commit()"
    assert run(f"db.create_all(); {write}") == ""
    refused = run("db.signalbus.flushmany()")
    assert "PublishError" in refused
    assert "NO_ROUTE" in refused
    queue = broker.queue(exchange)
    assert run("print(db.signalbus.flushmany())") == "2"
    assert [message.text for message in broker.take_all(queue)] == ['{"amount": 1}', '{"amount": 2}']


def test_the_old_imports_have_the_new_ones_beside_them() -> None:
    [diff] = re.findall(r"^```diff\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    exec("\n".join(line[1:] for line in diff.splitlines() if line.startswith("+")), names)  # noqa: S102
    imported = re.findall(r"^-.*import (.*)", diff, re.MULTILINE)
    assert {name for line in imported for name in line.split(", ")} <= set(names)


def test_an_error_that_the_application_calls_an_outage_is_one() -> None:
    names: dict[str, Any] = {}
    exec(snippets()[1], names)  # noqa: S102
    assert is_outage_error(names["BrokerIsAwayError"]())
