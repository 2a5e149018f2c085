"""What is broken is drawn by the seed alone."""

from __future__ import annotations

from itertools import islice

from relay.drill.injector import CALM_SECONDS, LASTING_SECONDS, FaultKind, plan

KINDS = list(FaultKind)


def test_the_same_seed_breaks_the_same_things() -> None:
    assert list(islice(plan(7, KINDS, 3), 50)) == list(islice(plan(7, KINDS, 3), 50))
    assert list(islice(plan(7, KINDS, 3), 50)) != list(islice(plan(8, KINDS, 3), 50))


def test_each_kind_comes_once_before_any_comes_again() -> None:
    faults = list(islice(plan(1, KINDS, 2), 2 * len(KINDS)))
    for part in (faults[: len(KINDS)], faults[len(KINDS) :]):
        assert {fault.kind for fault in part} == set(KINDS)


def test_faults_keep_their_limits_and_reach_every_relay() -> None:
    faults = list(islice(plan(1, KINDS, 3), 200))
    assert {fault.relay for fault in faults} == {0, 1, 2}
    assert all(CALM_SECONDS[0] <= fault.after_seconds <= CALM_SECONDS[1] for fault in faults)
    assert all(LASTING_SECONDS[0] <= fault.lasting_seconds <= LASTING_SECONDS[1] for fault in faults)
