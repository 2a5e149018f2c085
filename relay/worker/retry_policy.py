"""What follows from a failed attempt of a signal: how long it waits for the next one, and when it is parked. Pure.

- A signal that its destination refused waits for the destination, and is never parked.
- One that is at fault itself is tried again, later each time, and in the end parked.
- One that was sent and cannot be deleted has its *delete* tried again, later each time, and is parked in the end too.

Nothing is ever discarded. Attempts are those in a row of one of these kinds: when the kind changes, the count begins
anew, so that no attempt at which the destination refused brings a signal nearer to being parked.

An attempt counts against a signal only on evidence: what fails for every signal is nobody's own fault.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from signalbus_core import Outcome
from signalbus_core.lowlevel import UNDELETED

from .backoff import Backoff, Uniform

#: A signal that waits for something else to be mended is tried at least so often. Longer: fewer returned messages while
#: a route is missing, and a later flow once it is there.
LONGEST_REFUSED_WAIT_SECONDS = 60.0

#: A signal that is at fault itself waits at most so long. Longer: more time to mend the code before it is parked.
LONGEST_FAULT_WAIT_SECONDS = 600.0

#: So many attempts, and a signal that is at fault is parked: with the waits between them, after half an hour or more.
PARK_AFTER = 12

#: An exception of a send method with nothing to compare it with counts against the signal after so long. Longer: longer
#: outages of what a send method needs park nothing; a bad signal of a quiet model waits longer for a person.
ALONE_SECONDS = 24 * 3600.0

#: The classes of failures that are the destination's.
OF_DESTINATION = frozenset({"returned", "nacked", "refused", "silent"})


@dataclass(frozen=True)
class History:
    """What is noted of a signal before an attempt.

    :param cause: of the last failure; empty when there was none.
    :param failing_seconds: since the first failure.
    :param waited_seconds: since the last one.
    """

    attempts: int = 0
    cause: str = ""
    failing_seconds: float = 0.0
    waited_seconds: float = math.inf


@dataclass(frozen=True)
class Evidence:
    """What the other signals of a model tell about a failure.

    :param too_much_fails: so much fails that the fault cannot be the signals'.
    :param unsent_seconds: since the last time that a signal of the model was sent.
    """

    too_much_fails: bool = False
    unsent_seconds: float = math.inf

    def is_against(self, before: History, outcome: Outcome) -> bool:
        """Whether an attempt that ended so counts against its signal."""
        if self.too_much_fails:
            return False
        if outcome.cause != "error" or before.failing_seconds >= ALONE_SECONDS:
            return True
        # The same send method has sent another signal since this one failed last.
        return self.unsent_seconds < before.waited_seconds


#: Others are sent all the while.
ITS_OWN_FAULT = Evidence(unsent_seconds=-math.inf)


@dataclass(frozen=True)
class Step:
    """What becomes of a signal that was tried in vain.

    :param wait_seconds: until its next try; None parks it.
    """

    attempts: int
    wait_seconds: float | None


class RetryPolicy:
    """The rules, with the randomness that keeps replicas and signals apart.

    :param park_after: the number of attempts after which a signal that is at fault is parked.
    """

    def __init__(self, park_after: int = PARK_AFTER, uniform: Uniform | None = None) -> None:
        self.park_after = park_after
        arguments = {} if uniform is None else {"uniform": uniform}
        self._refused = Backoff(1.0, LONGEST_REFUSED_WAIT_SECONDS, **arguments)
        self._fault = Backoff(1.0, LONGEST_FAULT_WAIT_SECONDS, **arguments)

    def after(self, before: History, outcome: Outcome, evidence: Evidence = ITS_OWN_FAULT) -> Step:
        """What follows from one more failed attempt."""
        attempts = before.attempts if _is_of_one_kind(before.cause, outcome) else 0
        if outcome.is_of_destination:
            return Step(attempts + 1, self._refused.wait_seconds(attempts + 1))
        if not evidence.is_against(before, outcome):
            # Attempts stand still, and waits grow all the same: with the time that it has been failing.
            doublings = int(before.failing_seconds).bit_length()
            return Step(max(1, attempts), self._refused.wait_seconds(max(attempts + 1, doublings)))
        if attempts + 1 >= self.park_after:
            return Step(attempts + 1, None)
        return Step(attempts + 1, self._fault.wait_seconds(attempts + 1))


def _is_of_one_kind(cause_before: str, outcome: Outcome) -> bool:
    if cause_before == outcome.cause:
        return True
    if UNDELETED in (cause_before, outcome.cause):
        return False
    # A sender of another broker may have causes of its own.
    return (cause_before in OF_DESTINATION) == outcome.is_of_destination
