"""How tests are dealt out to several processes: the slowest first, so that none of them is left over in the end.

The tests of a file stay together, because they share what its fixtures make. But where each test makes all that it
needs, a slow file would hold up one process while the others have nothing to do.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files whose tests share something slow to make.
TOGETHER = {
    "tests/acceptance/documents/test_readme.py": "an environment to install into",
    "tests/acceptance/test_distribution.py": "an environment to install into",
    "tests/faults/test_bad_signals.py": "world 0",
    "tests/integration/rabbitmq/test_publisher.py": "a broker to hold up",
    "tests/integration/checks/test_broker.py": "a broker to hold up",
    "tests/integration/rabbitmq/test_bad_messages.py": "a broker to hold up",
}

#: Each fault leaves a world behind that is whole again. In one world they would go on for longer than all other tests.
FAULTS = "tests/faults/test_faults.py"
WORLDS = 2

#: Slow files whose tests share nothing that is slow to make.
APART = {
    "tests/acceptance/documents/test_quickstart.py",
    "tests/acceptance/commands/test_demo.py",
    "tests/acceptance/commands/test_drill.py",
    "tests/acceptance/relay/test_relay.py",
    "tests/acceptance/relay/test_tables.py",
    "tests/acceptance/relay/test_doorbell.py",
    "tests/acceptance/commands/test_parked.py",
    "tests/acceptance/commands/test_pending.py",
    "tests/acceptance/commands/test_pausing.py",
    "tests/acceptance/commands/test_explain.py",
    "tests/acceptance/relay/test_poison_candidates.py",
    "tests/faults/test_silent_destinations.py",
    "tests/faults/test_sockets.py",
    "tests/integration/test_private_servers.py",
}

#: What takes longest, in this order; all else follows.
SLOWEST = (
    "tests/faults/test_faults.py",
    "tests/faults/test_cluster_faults.py",
    "tests/faults/test_bad_signals.py",
    "tests/acceptance/documents/test_readme.py",
    "tests/acceptance/test_distribution.py",
    "tests/acceptance/documents/test_quickstart.py",
    "tests/acceptance/commands/test_demo.py",
    "tests/acceptance/commands/test_drill.py",
    "tests/acceptance/documents/test_migrations_how_to.py",
    "tests/integration/rabbitmq/test_publisher.py",
    "tests/integration/checks/test_broker.py",
    "tests/integration/test_private_servers.py",
    "tests/acceptance/",
    "tests/faults/",
    "tests/deploy/",
    "tests/contract/",
    "tests/integration/",
)


def by_slowness(item: pytest.Item) -> int:
    return next((place for place, path in enumerate(SLOWEST) if item.nodeid.startswith(path)), len(SLOWEST))


class SlowestFirst(LoadScopeScheduling):
    """Takes the place of ``--dist loadfile``; the order is that of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file == FAULTS:
            return f"world {crc32(nodeid.encode()) % WORLDS}"
        return nodeid if file in APART else TOGETHER.get(file, file)

    def schedule(self) -> None:
        # Else the files with the most tests would come first, and those with a single slow one last.
        self.config.option.loadscopereorder = False
        super().schedule()

    def remove_node(self, node: Any) -> str | None:
        """As it is, but a test that has ended its process is not run again: it would end one process after another."""
        left = {
            test: scope for scope, unit in self.assigned_work[node].items() for test, done in unit.items() if not done
        }
        if not left:
            return super().remove_node(node)
        del self.assigned_work[node]
        crashed, *others = left
        for test in others:
            self.workqueue.setdefault(left[test], {})[test] = False
        for other in self.assigned_work:
            self._reschedule(other)
        return crashed

    def _reschedule(self, node: Any) -> None:
        # One that takes the place of another is given nothing before it has collected the tests.
        if node in self.registered_collections:
            super()._reschedule(node)
