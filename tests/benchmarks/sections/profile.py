"""Where the relay's processor time goes: bursts of 1,000 in this process, phase by phase, one after the other."""

from __future__ import annotations

from ..inside import Inside
from ..section import Round
from ..settings import BURST_COUNT, Scale
from ..world import World


def measure(world: World, scale: Scale) -> Round:
    bursts = max(2, scale.signals // BURST_COUNT // 2)
    with Inside(world, burst_count=BURST_COUNT) as inside:
        inside.burst(BURST_COUNT)
        return inside.profile(bursts, BURST_COUNT)
