"""The world, built once for all faults. It ends with them, as its relays poll all the time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .world import World


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    with World() as world:
        yield world
