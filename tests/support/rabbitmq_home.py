"""RabbitMQ as it is installed, but without the plugins that no test enables.

A node looks for each of its thousand modules in the directories of all plugins, and reads the configuration schemas of
all of them, before it starts. Without these it takes half of the time.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from .guardian import guardian
from .programs import Machine, Tree

#: What a node is made of, with what these need.
APPLICATIONS = ("rabbit", "cuttlefish")


@cache
def server_without_plugins(machine: Machine, server: Path) -> Path:
    """The script that starts a node, in a directory of its own; or the given one, where it is installed otherwise."""
    root = machine.root.resolve() if isinstance(machine, Tree) else Path("/")
    scripts = (root / server.relative_to("/")).resolve().parent
    plugins = {path.name.partition("-")[0]: path for path in (scripts.parent / "plugins").glob("*-*") if path.is_dir()}
    needed = _needed(plugins)
    if not set(APPLICATIONS) <= set(needed):
        return server
    home = Path(tempfile.mkdtemp(prefix=f"signalbus-{os.getpid()}-rabbitmq-home-", dir="/tmp"))
    guardian.watch("directory", str(home))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o755)
    shutil.copytree(scripts, home / "sbin")
    (home / "plugins").mkdir()
    for name in needed:
        # As the node sees it, which may have another root.
        (home / "plugins" / plugins[name].name).symlink_to(Path("/") / plugins[name].relative_to(root))
    return home / "sbin" / server.name


def _needed(plugins: dict[str, Path]) -> list[str]:
    """The names of these directories whose applications a node needs; the others are Erlang's own."""
    found: list[str] = []
    todo = list(APPLICATIONS)
    while todo:
        name = todo.pop()
        if name in plugins and name not in found:
            found.append(name)
            text = (plugins[name] / "ebin" / f"{name}.app").read_text()
            lists = re.findall(r"\{\s*(?:included_)?applications\s*,\s*\[(.*?)\]", text, re.DOTALL)
            todo += re.findall(r"\w+", " ".join(lists))
    return sorted(found)
