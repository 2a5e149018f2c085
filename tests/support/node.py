"""Node.js with a package, as far as this machine has them. ``make setup`` adds the packages where npm is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: Where packages may be: beside the tests' own packages, or where Debian puts it.
PLACES = (Path(sys.prefix) / "node" / "node_modules", Path("/usr/share/nodejs"))


def node_environment(package: str = "pg") -> dict[str, str] | None:
    """What has to be in the environment for a script that uses the package; None when it cannot run here."""
    node = shutil.which("node")
    if node is None:
        return None
    environment = {"NODE_PATH": os.pathsep.join([str(place) for place in PLACES] + [os.environ.get("NODE_PATH", "")])}
    found = subprocess.run(
        [node, "-e", f"require.resolve('{package}')"],
        env=os.environ | environment,
        cwd="/",
        capture_output=True,
        check=False,
    )
    return environment if found.returncode == 0 else None
