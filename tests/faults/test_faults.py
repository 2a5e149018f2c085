"""Every fault once: nothing lost, nothing invented, duplicates within the bound, and no relay has to be restarted."""

from __future__ import annotations

import random

import pytest

from . import trial
from .catalogue import FAULTS
from .fault import Fault
from .world import World


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_promise_is_kept_under(fault: Fault, world: World) -> None:
    report = trial.run(world, fault, random.Random(fault.name))
    assert not report.problems, "\n".join(report.problems)
    assert report.recovered_seconds is not None
