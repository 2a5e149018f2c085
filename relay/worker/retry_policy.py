"""How long a signal waits after a failed try, and when it is parked. Pure.

- A signal that its destination refused waits for the destination, and is never parked.
- One that is at fault itself is tried again with growing waits, and parked in the end.
- One that was sent and cannot be deleted has its *delete* tried again with growing waits, and is parked in the end too.

Invariant: nothing is discarded. Only consecutive attempts of one kind are counted: when the kind changes, the count
restarts, so that a refusal by the destination brings no signal nearer to being parked.

A failed try counts as an attempt only when the model's other signals do not fail too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from signalbus_core import Outcome
from signalbus_core.lowlevel import UNDELETED

from .backoff import Backoff, Uniform

#: A signal that its destination refused waits at most so long. Longer: fewer returned messages while a binding is
#: missing, and signals flow later once it is there.
LONGEST_REFUSED_WAIT_SECONDS = 60.0

#: A signal that is at fault itself waits at most so long. Longer: more time to mend the code before it is parked.
LONGEST_FAULT_WAIT_SECONDS = 600.0

#: A signal that is at fault is parked after so many attempts: with the waits, after half an hour or more.
PARK_AFTER = 12

#: When no other signal of the model was sent since, an exception of the send method counts against the signal after so
#: long. Longer: longer outages of what a send method needs park nothing; a bad signal of a quiet model is parked later.
ALONE_SECONDS = 24 * 3600.0

#: The failure classes that are the fault of the destination.
OF_DESTINATION = frozenset({"returned", "nacked", "refused", "silent"})


@dataclass(frozen=True)
class History:
    """What the retry store has about a signal before a try.

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
    """What the other signals of a model show about a failure.

    :param too_much_fails: so many signals fail that the fault is not their own.
    :param unsent_seconds: since the last time that a signal of the model was sent.
    """

    too_much_fails: bool = False
    unsent_seconds: float = math.inf

    def is_against(self, before: History, outcome: Outcome) -> bool:
        """Whether a failed try with this outcome counts against its signal."""
        if self.too_much_fails:
            return False
        if outcome.cause != "error" or before.failing_seconds >= ALONE_SECONDS:
            return True
        # Has the same send method sent another signal since this one failed last?
        return self.unsent_seconds < before.waited_seconds


#: Other signals of the model are being sent.
ITS_OWN_FAULT = Evidence(unsent_seconds=-math.inf)


@dataclass(frozen=True)
class Step:
    """What follows for a signal after a failed try.

    :param wait_seconds: until its next try; None parks it.
    """

    attempts: int
    wait_seconds: float | None


class RetryPolicy:
    """The rules; random waits keep replicas and signals from retrying at the same time.

    :param park_after: the number of attempts after which a signal that is at fault is parked.
    """

    def __init__(self, park_after: int = PARK_AFTER, uniform: Uniform | None = None) -> None:
        self.park_after = park_after
        arguments = {} if uniform is None else {"uniform": uniform}
        self._refused = Backoff(1.0, LONGEST_REFUSED_WAIT_SECONDS, **arguments)
        self._fault = Backoff(1.0, LONGEST_FAULT_WAIT_SECONDS, **arguments)

    def after(self, before: History, outcome: Outcome, evidence: Evidence = ITS_OWN_FAULT) -> Step:
        """What follows from one more failed try."""
        attempts = before.attempts if _is_of_one_kind(before.cause, outcome) else 0
        if outcome.is_of_destination:
            return Step(attempts + 1, self._refused.wait_seconds(attempts + 1))
        if not evidence.is_against(before, outcome):
            # The attempts stay as they are; the waits grow with the time that it has been failing.
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
    # A send method for another broker may have failure classes of its own.
    return (cause_before in OF_DESTINATION) == outcome.is_of_destination
