"""What is released: nothing is missing in it, nothing else is in it, and a relay runs from it in an empty environment.

``make dist`` runs this on what it leaves in ``dist/``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import signalbus_core
from relay import __version__
from tests.support.readme import blocks

ROOT = Path(__file__).parents[2]
PACKAGES = ("signalbus_core", "relay")

#: What a package consists of; anything else in its directory is left behind by something.
KINDS = (".py", ".typed", ".html", ".css", ".js", ".json", ".sql", ".txt")


def run(*command: object, **arguments: object) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, check=False, **arguments
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sdist and the wheel are, built from what is committed or about to be."""
    directory = Path(os.environ.get("SIGNALBUS_DIST") or tmp_path_factory.mktemp("dist")).absolute()
    # With the build backend of this environment: an isolated one for each of the two takes half a minute.
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", *isolation, "--outdir", directory, ROOT)
    return directory


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"signalbus-{__version__}-py3-none-any.whl"


def of_packages() -> set[str]:
    tracked = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES).splitlines()
    return {name for name in tracked if (ROOT / name).exists()}


def test_the_wheel_has_the_packages_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = {name for name in names if name.startswith(f"signalbus-{__version__}.dist-info/")}
    manual = f"signalbus-{__version__}.data/data/share/man/man1/signalbus-relay.1"
    added = {"relay/operations/runbook.md", "relay/commands/setup/signalbus.rules.yml", manual}
    assert names - metadata == of_packages() | added
    assert zipfile.ZipFile(wheel).read(manual).startswith(b".TH SIGNALBUS-RELAY 1 ")
    assert {Path(name).suffix for name in of_packages()} <= set(KINDS)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {Path(name).name for name in metadata} == {"METADATA", "RECORD", "WHEEL", "LICENSE", "entry_points.txt"}


def test_the_sdist_has_the_packages_and_what_describes_them(dist: Path) -> None:
    root = f"signalbus-{__version__}/"
    with tarfile.open(dist / f"signalbus-{__version__}.tar.gz") as archive:
        names = {name.removeprefix(root) for name in archive.getnames()}
    described = {"README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"} | {
        "docs/runbook.md",
        "deploy/prometheus/signalbus.rules.yml",
        # What the manual page is made of.
        "hatch_build.py",
        ".ci/man.py",
        *(f"docs/reference/{page}.md" for page in ("options", "commands", "exit-codes")),
    }
    assert names == of_packages() | described


def test_the_version_is_said_in_one_place(wheel: Path) -> None:
    metadata = message_from_string(zipfile.ZipFile(wheel).read(f"signalbus-{__version__}.dist-info/METADATA").decode())
    [declared] = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert metadata["Version"] == __version__ == declared
    found = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if re.search(rf"['\"]{re.escape(declared)}['\"]", path.read_text())
    ]
    assert found == []


def test_the_relay_runs_from_the_wheel_in_an_empty_environment(
    wheel: Path, installed: Path, tmp_path: Path, database_url: str, empty_amqp_url: str
) -> None:
    programs = installed / ".venv" / "bin"
    # What the checkout needed is there, and is all that the wheel needs.
    [of_checkout] = installed.glob(f".venv/lib/*/site-packages/signalbus-{__version__}.dist-info/METADATA")
    of_wheel = message_from_string(zipfile.ZipFile(wheel).read(f"signalbus-{__version__}.dist-info/METADATA").decode())
    required = of_wheel.get_all("Requires-Dist")
    assert required
    assert message_from_string(of_checkout.read_text()).get_all("Requires-Dist") == required
    pip = (programs / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "uninstall", "--yes", "signalbus")
    assert not of_checkout.exists()
    run(*pip, "install", "--no-index", wheel)
    (tmp_path / "shop.py").write_text(blocks("python")[0])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment = inherited | {"DATABASE_URL": database_url, "RABBITMQ_URL": empty_amqp_url}

    def shell(*command: object) -> str:
        return run(*command, cwd=tmp_path, env=environment)

    where = shell(programs / "python", "-c", "import signalbus_core; print(signalbus_core.__file__)").strip()
    assert where != signalbus_core.__file__
    assert Path(where).is_relative_to(installed)
    assert __version__ in shell(programs / "signalbus-relay", "--version")
    shell(programs / "flask", "--app", "shop", "set-up")
    shell(programs / "flask", "--app", "shop", "order", "tea")
    shell(programs / "signalbus-relay", "run", "--app", "shop", "--until-empty", "--http", "off")
    assert re.fullmatch(
        r'[0-9a-f-]{36}: \{"order_id": 1\}', shell(programs / "flask", "--app", "shop", "inbox").strip()
    )
