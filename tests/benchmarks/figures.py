"""The figures of all sections, as they are kept in a file between two runs."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.postgres import PLACES
from tests.support.programs import find_program

from .processes import memory_gib, processor
from .section import Figure, Round, add
from .settings import Scale


@dataclass
class Figures:
    """What was measured, section by section, and on what machine."""

    machine: dict[str, str] = field(default_factory=dict)
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Figures:
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": self.machine, "sections": self.sections}, indent=1) + "\n")

    def begin(self, section: str, scale: Scale) -> None:
        self.machine = machine()
        self.sections[section] = {"is_quick": scale.is_quick, "signals": scale.signals, "found": {}}

    def add(self, section: str, found: Round) -> None:
        add(self.sections[section]["found"], found)

    def end(self, section: str, seconds: float) -> None:
        day = datetime.now(timezone.utc).date().isoformat()
        self.sections[section] |= {"day": day, "seconds": round(seconds)}

    def variants(self, section: str) -> list[str]:
        return list(self.sections.get(section, {}).get("found", {}))

    def get(self, section: str, variant: str, name: str) -> Figure | None:
        """A figure; None when it was not measured."""
        values = self.sections.get(section, {}).get("found", {}).get(variant, {}).get(name)
        return Figure(tuple(values)) if values else None

    def median(self, section: str, variant: str, name: str) -> float | None:
        figure = self.get(section, variant, name)
        return figure.median if figure is not None else None


def machine() -> dict[str, str]:
    """What it was measured on. No name of the host, and no path of it."""
    return {
        "processor": processor(),
        "memory": f"{memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "PostgreSQL": _postgres_version(),
        "RabbitMQ": _rabbitmq_version(),
        **{name: version(name) for name in ("pika", "SQLAlchemy", "psycopg2-binary", "signalbus")},
    }


def _postgres_version() -> str:
    program = find_program("postgres", *PLACES)
    text = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(\d[\d.]*)", text)
    return found[1] if found else "unknown"


def _rabbitmq_version() -> str:
    found = list(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return found[0].name.partition("-")[2] if found else "unknown"
