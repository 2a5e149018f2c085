"""What a private server was asked, as it logs it itself: BEGIN, COMMIT and ROLLBACK are there too, each its own line.

A message of several statements is one line, because it is one round trip.
"""

from __future__ import annotations

import re

from .postgres import PrivatePostgres

#: The settings of a server whose log is to be read here.
SETTINGS = ("log_statement=all", "log_line_prefix=<%a>")


class StatementLog:
    """What the sessions of one application name have sent since the last time that this was asked."""

    def __init__(self, server: PrivatePostgres, application_name: str) -> None:
        self._path = server.directory / "output"
        self._begins = re.compile(rf"^<{application_name}>LOG:  (?:statement|execute [^:]*): ", re.MULTILINE)
        self._read = self._path.stat().st_size

    def new(self) -> list[str]:
        with self._path.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._read)
            text = log.read()
            self._read = log.tell()
        return [re.split(r"^<", part, maxsplit=1, flags=re.MULTILINE)[0] for part in self._begins.split(text)[1:]]
