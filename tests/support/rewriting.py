"""The tests with their assertions rewritten, kept before several processes collect them.

Each of these would find nothing that is kept, and rewrite all tests itself: that takes more than half of the time of
collecting. What is used here is pytest's own; where another version has it not, each process does it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest


def keep_rewritten(config: pytest.Config) -> None:
    """Rewrite the tests that are to be run, where that was not done before; in as many processes as there are cores."""
    if sys.dont_write_bytecode or not hasattr(os, "fork"):
        return
    paths = [path for argument in config.args for path in _tests(config.rootpath / argument.partition("::")[0])]
    processes = []
    for number in range(cores := os.cpu_count() or 1):
        processes.append(os.fork())
        if processes[-1] == 0:
            code = 1
            try:
                _rewrite(config, paths[number::cores])
                code = 0
            finally:
                os._exit(code)
    for pid in processes:
        os.waitpid(pid, 0)


def _tests(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def _rewrite(config: pytest.Config, paths: list[Path]) -> None:
    from _pytest.assertion import rewrite

    private: Any = rewrite
    state = config.stash[private.assertstate_key]
    for path in paths:
        directory = private.get_cache_dir(path)
        kept = directory / (path.name.removesuffix(".py") + private.PYC_TAIL)
        if private.try_makedirs(directory) and private._read_pyc(path, kept) is None:
            found, code = private._rewrite_test(path, config)
            private._write_pyc(state, code, found, kept)
