"""Puts the built site beside the versions that were published before, in a folder that any web server can serve.

``python .ci/site/publish.py FOLDER`` copies ``build/site`` to ``FOLDER/VERSION``, lists the versions in
``FOLDER/versions.json``, from which the pages offer them, and has ``FOLDER/index.html`` lead to the newest. Published
once more, a version is replaced.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"

#: Leads to the newest version, also without JavaScript.
INDEX = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={version}/index.html">
<title>Signalbus</title>
<a href="{version}/index.html">The documentation of Signalbus {version}</a>
</html>
"""


def publish(site: Path, folder: Path, version: str) -> list[str]:
    """Copy a built site; return all versions, the newest first."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / version, ignore_errors=True)
    shutil.copytree(site, folder / version)
    versions = sorted((path.parent.name for path in folder.glob("*/index.html")), key=_order, reverse=True)
    listed = [{"version": one, "title": one, "aliases": ["latest"] if one == versions[0] else []} for one in versions]
    (folder / "versions.json").write_text(json.dumps(listed, indent=1) + "\n")
    (folder / "index.html").write_text(INDEX.format(version=versions[0]))
    return versions


def _order(version: str) -> tuple[list[int], bool, str]:
    """A release comes after its candidates."""
    numbers, rest = re.match(r"([\d.]*)(.*)", version).groups()  # type: ignore[union-attr]
    return [int(number) for number in numbers.split(".") if number], not rest, rest


def main() -> int:
    """The command."""
    if len(sys.argv) != 2 or not (SITE / "index.html").exists():
        print("usage, after `make docs`: python .ci/site/publish.py FOLDER", file=sys.stderr)
        return 2
    [version] = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    print(" ".join(publish(SITE, Path(sys.argv[1]), version)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
