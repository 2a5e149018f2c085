"""Exponential backoff with jitter. Pure: the random numbers are passed in.

Waits are random so that replicas, which fail at the same time, do not retry at the same time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

#: A random number between two numbers, like :func:`random.uniform`.
Uniform = Callable[[float, float], float]


class Backoff:
    """Waits that grow with each consecutive failure, with full jitter.

    :param shortest_seconds: no wait is shorter.
    :param longest_seconds: no wait is longer.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(
        self, shortest_seconds: float = 0.2, longest_seconds: float = 30.0, uniform: Uniform = random.uniform
    ) -> None:
        self.shortest_seconds = shortest_seconds
        self.longest_seconds = longest_seconds
        self.failures = 0
        self._uniform = uniform

    def failed(self) -> float:
        """Record a failure; return how many seconds to wait before the next try."""
        self.failures += 1
        return self.wait_seconds(self.failures)

    def wait_seconds(self, failures: int) -> float:
        """How many seconds to wait after so many consecutive failures."""
        # The exponent is bounded: 2.0 ** 2000 overflows after a long night.
        ceiling = min(self.longest_seconds, self.shortest_seconds * 2.0 ** min(failures, 60))
        return max(self.shortest_seconds, self._uniform(0.0, ceiling))

    def succeeded(self) -> None:
        self.failures = 0
