"""Adds the manual page to the wheel, where the pages that it is made of are there: an image has no use for it."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPage(BuildHookInterface):  # type: ignore[type-arg]
    """Makes share/man/man1/signalbus-relay.1."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        maker = Path(self.root, ".ci", "man.py")
        if maker.is_file():
            self._directory = tempfile.TemporaryDirectory()
            page = Path(self._directory.name, "signalbus-relay.1")
            page.write_text(runpy.run_path(str(maker))["page"](), encoding="utf-8")
            build_data["shared_data"][str(page)] = "share/man/man1/signalbus-relay.1"
