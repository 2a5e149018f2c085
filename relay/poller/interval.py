"""The poll interval: the pause between two polls. Pure: the random numbers are passed in.

The longest pause is the option ``--poll-interval``; :mod:`~.requests` shortens it while a notifier is awake. Pauses are
random so that replicas, which idle at the same time, do not poll at the same time.
"""

from __future__ import annotations

import random

from ..worker.backoff import Uniform


class PollInterval:
    """The pause between two polls: short while signals flow, doubling up to the longest while there are none.

    Up to a fifth is added at random: the polls of replicas drift apart, and the maintenance statements of an idle relay
    fit in without more statements than the interval promises.

    :param longest_seconds: the pause of an idle relay.
    :param shortest_seconds: the pause right after signals were sent.
    """

    def __init__(
        self, longest_seconds: float, shortest_seconds: float = 0.05, uniform: Uniform = random.uniform
    ) -> None:
        self.longest_seconds = longest_seconds
        self.shortest_seconds = min(shortest_seconds, longest_seconds)
        self._uniform = uniform
        self._seconds = longest_seconds

    def next_seconds(self, *, active: bool) -> float:
        """The pause until the next poll.

        :param active: signals were sent since the last poll.
        """
        self._seconds = self.shortest_seconds if active else min(self.longest_seconds, self._seconds * 2)
        return self._uniform(1.0, 1.2) * self._seconds
