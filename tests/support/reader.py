"""A person who reads a page of the documentation, and types what it says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.programs import free_port
from tests.support.waiting import eventually


def snippets(page: str, language: str) -> list[str]:
    """The code of a page in one language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    """What a page tells its reader to type."""
    return re.findall(r"^ *\$ (.*)", page, re.MULTILINE)


class Reader:
    """Someone who types what the page says, into one shell, and waits where it takes a moment."""

    def __init__(self, directory: Path, environ: dict[str, str], ports: tuple[int, ...]) -> None:
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
        self._ports = {str(number): str(free_port()) for number in ports}

    def types(self, command: str) -> str:
        """What the shell shows until the command has ended, or is in the background."""
        for documented, free in self._ports.items():
            command = re.sub(rf"(?<=[:? ]){documented}\b", free, command)
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

        try:
            eventually(shows, 60)
        except AssertionError as error:
            raise AssertionError(f"{command} does not show {text!r}, but {found!r}") from error
        return found

    def close(self) -> None:
        self.types("kill $(jobs -p) 2>/dev/null; wait")
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        with self._shell.stdin, self._shell.stdout:
            self._shell.stdin.close()
            self._shell.wait(30)
