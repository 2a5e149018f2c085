"""The quickstart, word by word: each command is run, and says what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefork import stand_ins
from tests.support.programs import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
README = (ROOT / "README.md").read_text()


def python(page: str) -> str:
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]


class Reader:
    """Someone who types what the page says, into one shell, and waits where it takes a moment."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "-m"],
            cwd=directory,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._ports = {str(number): str(free_port()) for number in range(9111, 9115)}

    def types(self, command: str) -> str:
        """What the shell shows until the command has ended, or is in the background."""
        for documented, free in self._ports.items():
            command = command.replace(f":{documented}", f":{free}")
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        if command.endswith("&"):
            command = f"{command.removesuffix('&')} >>relays.log 2>&1 &"
        self._shell.stdin.write(f"{command}\necho; echo '--- done ---'\n")
        self._shell.stdin.flush()
        shown = []
        for line in self._shell.stdout:
            if line.strip() == "--- done ---":
                return "".join(shown)
            shown.append(line)
        raise AssertionError("".join(shown))

    def until(self, command: str, text: str) -> str:
        """Type a command again until it shows a text."""
        found = ""

        def shows() -> bool:
            nonlocal found
            found = self.types(command)
            return text in found

        eventually(shows, 60)
        return found

    def close(self) -> None:
        self.types("kill $(jobs -p) 2>/dev/null; wait")
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        with self._shell.stdin, self._shell.stdout:
            self._shell.stdin.close()
            self._shell.wait(30)


@pytest.fixture
def reader(tmp_path: Path, database_url: str, empty_amqp_url: str) -> Iterator[Reader]:
    (tmp_path / "shop.py").write_text(python(README))
    (tmp_path / "returns.py").write_text(python(PAGE))
    reader = Reader(
        tmp_path,
        os.environ
        | {
            "DATABASE_URL": database_url,
            "RABBITMQ_URL": empty_amqp_url,
            "PATH": f"{stand_ins(tmp_path / 'programs')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
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
    commands = re.findall(r"^\$ (.*)", PAGE, re.MULTILINE)
    assert set(SHOWS) <= set(commands)
    for number, command in enumerate(commands):
        if command == "flask --app returns inbox":
            reader.until(command, next(inbox))
        elif command == "signalbus-relay pending":
            is_paused = "pause" in commands[number - 2]
            reader.until(command, "paused since" if is_paused else SHOWS[command])
        elif command in ("signalbus-relay parked list", "signalbus-relay explain OrderReturned 1"):
            reader.until(command, SHOWS[command])
        else:
            assert SHOWS.get(command, "") in (shown := reader.types(command)), shown
    assert next(inbox, None) is None
