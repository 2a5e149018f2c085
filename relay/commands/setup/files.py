"""The files of a new application, made from templates, and written all or none.

Invariant: no file that is there is changed. When one cannot be written, those written before it are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from string import Template

from ... import __version__
from ...exit_codes import CommandError
from .answers import Answers

_TEMPLATES = files(__package__) / "templates"

#: In the source tree the rules lie among the deployment files; the build puts them beside the templates.
_RULES_IN_PACKAGE = files(__package__) / "signalbus.rules.yml"
_RULES_IN_SOURCES = Path(__file__).parents[3] / "deploy" / "prometheus" / "signalbus.rules.yml"

#: Which template becomes which file; that of the application is named after its module.
_FILES = {
    "alembic.ini.txt": "alembic.ini",
    "env.py.txt": "migrations/env.py",
    "script.py.mako.txt": "migrations/script.py.mako",
    "migration.py.txt": "migrations/versions/0001_signals.py",
    "requirements.txt.txt": "requirements.txt",
    "Dockerfile.txt": "Dockerfile",
    "compose.yml.txt": "docker-compose.yml",
}


def rendered(answers: Answers) -> dict[str, str]:
    """The text of each file, by its path under the directory of the application."""
    names = asdict(answers) | {"table": answers.table, "routing_key": answers.routing_key, "version": __version__}
    targets = {"application.py.txt": f"{answers.module}.py", **_FILES}
    found = {
        target: Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(names)
        for template, target in targets.items()
    }
    rules = _RULES_IN_PACKAGE if _RULES_IN_PACKAGE.is_file() else _RULES_IN_SOURCES
    return {**found, "signalbus.rules.yml": rules.read_text(encoding="utf-8")}


def write(directory: Path, texts: Mapping[str, str]) -> None:
    """Write the files.

    :raises CommandError: one is there already; nothing was written.
    :raises OSError: one cannot be written; those before it were removed.
    """
    there = [name for name in texts if (directory / name).exists() or (directory / name).is_symlink()]
    if there:
        raise CommandError(
            f"{', '.join(there)} {'are' if len(there) > 1 else 'is'} in {directory} already, and nothing was written. "
            "Give a new directory with --directory"
        )
    written: list[Path] = []
    try:
        for name, text in texts.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError:
        for path in written:
            path.unlink()
        raise
