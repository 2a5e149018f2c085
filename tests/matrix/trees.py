"""Servers of other releases than this machine's: a directory tree for each release of Debian, kept in a cache.

A tree is about 600 MB, and takes some minutes to make. It is made once; remove the directory to have it made anew.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.programs import ServersMissingError

PACKAGES = "rabbitmq-server,postgresql,ca-certificates,python3-venv"

MIRROR = os.environ.get("SIGNALBUS_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")


def cache() -> Path:
    """Where the trees are."""
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "signalbus-servers"


def tree(release: str) -> Path:
    """The tree of a release; it is made where it is missing.

    :raises ServersMissingError: it cannot be made here; the message says what is missing.
    """
    root = cache() / release
    if not root.exists():
        _refuse_where_impossible()
        _make(release, root)
    return root


def _refuse_where_impossible() -> None:
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        raise ServersMissingError(
            "Servers of other releases run in directory trees of Debian, which only root on Linux can use."
        )
    if shutil.which("mmdebstrap") is None:
        raise ServersMissingError("The program mmdebstrap is missing. On Debian: apt-get install mmdebstrap")


def _make(release: str, root: Path) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    fresh = root.with_name(f"{release}-{os.getpid()}")
    command = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}"]
    # The release file of a release that is still made may be a few days old.
    command += ['--aptopt=Acquire::Check-Valid-Until "false"', release, str(fresh), f"deb {MIRROR} {release} main"]
    try:
        subprocess.run(command, check=True)
        fresh.rename(root)
    except subprocess.CalledProcessError as error:
        raise ServersMissingError(f"mmdebstrap could not make {release}; what it said is above.") from error
    finally:
        # Nothing is mounted there: what runs in a tree has a mount namespace of its own.
        shutil.rmtree(fresh, ignore_errors=True)
