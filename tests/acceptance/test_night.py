"""On call at night: whatever goes wrong, all places say what, why, since when, and what to do.

``python -m tests.support.night_table`` prints what they say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.night import Night
from tests.support.night_causes import CAUSES, Cause, agrees, commands, hear, is_well, log_sizes
from tests.support.night_faults import stopped_broker
from tests.support.processes import RelayProcess
from tests.support.waiting import eventually

#: It is so within about five seconds; a machine that does other things too takes longer.
PATIENCE_SECONDS = 40.0


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with ExitStack() as stack:
        yield Night(stack, tmp_path_factory.mktemp("night"))


def wait_until_told(cause: Cause, night: Night, relay: RelayProcess, before: list[int]) -> None:
    try:
        eventually(lambda: not agrees(cause, hear(night, relay, before)), PATIENCE_SECONDS, every_seconds=0.3)
    except AssertionError:
        said = hear(night, relay, before)
        pytest.fail(f"{cause.name} is not told by {agrees(cause, said)}: {said.model}, {said.ready}, {said.log}")


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.make.__name__)
def test_all_places_tell_the_same(night: Night, cause: Cause) -> None:
    before = log_sizes(night)
    with cause.make(night):
        for relay in night.relays:
            wait_until_told(cause, night, relay, before)
        told = commands(night)
        assert f"[{cause.finding}]" in told["check"]
        if cause.word is not None:
            assert re.search(rf"^Order .* {cause.word}\b.*{cause.why}", told["pending"], re.MULTILINE), told["pending"]
            assert f"\nTo do: {cause.to_do}" in told["pending"]
            assert cause.to_do in told["check"], told["check"]
            assert cause.word == "behind" or re.search(cause.why, told["explain"]), told["explain"]
            assert cause.word == "behind" or cause.to_do in told["explain"], told["explain"]
        if cause.alert is not None:
            eventually(lambda: cause.alert in night.prometheus.alerts(), PATIENCE_SECONDS, f"{cause.alert} fires")
    if cause.make is not stopped_broker:
        eventually(lambda: is_well(night), 90, "all is well again", 0.3)
