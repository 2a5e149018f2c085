"""A cluster of three nodes, faults of its nodes once each: nothing lost, nothing invented, and signals flow again."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from . import trial
from .cluster_world import ClusterWorld
from .fault import Fault
from .faults_cluster import SHORT


@pytest.fixture(scope="module")
def world() -> Iterator[ClusterWorld]:
    with ClusterWorld() as world:
        yield world


@pytest.mark.parametrize("fault", SHORT, ids=[fault.name for fault in SHORT])
def test_the_promise_is_kept_under(fault: Fault, world: ClusterWorld) -> None:
    report = trial.run(world, fault, random.Random(fault.name))
    assert not report.problems, "\n".join(report.problems)
    assert report.recovered_seconds is not None
