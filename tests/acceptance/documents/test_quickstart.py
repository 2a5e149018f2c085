"""The quickstart, word by word: each command is run, and says what the page says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefork import stand_ins
from tests.support.reader import Reader, commands, snippets

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
README = (ROOT / "README.md").read_text()


@pytest.fixture
def reader(tmp_path: Path, database_url: str, empty_amqp_url: str) -> Iterator[Reader]:
    (tmp_path / "shop.py").write_text(snippets(README, "python")[0])
    (tmp_path / "returns.py").write_text(snippets(PAGE, "python")[0])
    reader = Reader(
        tmp_path,
        os.environ
        | {
            "DATABASE_URL": database_url,
            "RABBITMQ_URL": empty_amqp_url,
            "PATH": f"{stand_ins(tmp_path / 'programs')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        ports=(9111, 9112, 9113, 9114),
    )
    reader.types("flask --app shop set-up")
    yield reader
    reader.close()


#: What a command shows, sooner or later; nothing where only its end matters.
SHOWS = {
    "signalbus-relay check": "✓ tables",
    "kill %1 %2": "",
    "signalbus-relay pending": "OrderReturned  1",
    "signalbus-relay parked list": "returned: 312 NO_ROUTE",
    "signalbus-relay explain OrderReturned 1": "waiting for its next try",
    "flask --app returns order honey": "Order 1 is placed.",
    "signalbus-relay parked retry OrderReturned": " will be tried again.",
    'signalbus-relay pause OrderPlaced --reason "the inbox is being moved"': "OrderPlaced is paused.",
    "flask --app returns order milk": "Order 2 is placed.",
    "signalbus-relay resume OrderPlaced": "OrderPlaced is resumed.",
}

#: The inbox is looked at three times.
#: Behind the ids of the messages, which are made for each row.
INBOX = [': {"order_id": 1}', ": order 1 comes back", ': {"order_id": 2}']


def test_the_quickstart_works_as_written(reader: Reader) -> None:
    inbox = iter(INBOX)
    typed = commands(PAGE)
    assert set(SHOWS) <= set(typed)
    for number, command in enumerate(typed):
        if command == "flask --app returns inbox":
            reader.until(command, next(inbox))
        elif command == "signalbus-relay pending":
            is_paused = "pause" in typed[number - 2]
            reader.until(command, "paused since" if is_paused else SHOWS[command])
        elif command in ("signalbus-relay parked list", "signalbus-relay explain OrderReturned 1"):
            reader.until(command, SHOWS[command])
        else:
            assert SHOWS.get(command, "") in (shown := reader.types(command)), shown
    assert next(inbox, None) is None
