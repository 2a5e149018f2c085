"""What follows from a failed attempt of a signal: how long it waits for the next one, and when it is parked. Pure.

A signal that its destination refused waits for the destination, and is never parked. One that is at fault itself is
tried again, later each time, and in the end parked. Nothing is ever discarded.

Attempts are those in a row of one kind: refused by the destination, or at fault itself. When the kind changes, the
count begins anew, so that no attempt at which the destination refused brings a signal nearer to being parked.
"""

from __future__ import annotations

from dataclasses import dataclass

from signalbus_core import Outcome

from .pacing import Backoff, Uniform

#: A refused signal waits at most so long for its next try. Longer: fewer returned messages while a route is missing,
#: and a later flow once it is there.
LONGEST_REFUSED_WAIT_SECONDS = 60.0

#: A signal that is at fault itself waits at most so long. Longer: more time to mend the code before it is parked.
LONGEST_FAULT_WAIT_SECONDS = 600.0

#: So many attempts, and a signal that is at fault is parked: with the waits between them, after half an hour or more.
PARK_AFTER = 12


#: The classes of failures that are the destination's.
OF_DESTINATION = frozenset({"returned", "nacked", "refused", "silent"})


@dataclass(frozen=True)
class Step:
    """What becomes of a signal that was tried in vain.

    :param wait_seconds: until its next try; None parks it.
    """

    attempts: int
    wait_seconds: float | None


class ParkingRules:
    """The rules, with the randomness that keeps replicas and signals apart.

    :param park_after: the number of attempts after which a signal that is at fault is parked.
    """

    def __init__(self, park_after: int = PARK_AFTER, uniform: Uniform | None = None) -> None:
        self.park_after = park_after
        arguments = {} if uniform is None else {"uniform": uniform}
        self._refused = Backoff(1.0, LONGEST_REFUSED_WAIT_SECONDS, **arguments)
        self._fault = Backoff(1.0, LONGEST_FAULT_WAIT_SECONDS, **arguments)

    def after(self, attempts_before: int, class_before: str, outcome: Outcome, *, counted: bool) -> Step:
        """What follows from one more failed attempt.

        :param attempts_before: how many attempts are noted of the signal.
        :param class_before: the cause of the last of them; empty when there is none.
        :param counted: False while so much fails that the fault cannot be the signal's: the attempt does not count.
        """
        before = attempts_before if _is_of_one_kind(class_before, outcome) else 0
        attempts = before + 1 if counted else before
        if outcome.is_of_destination:
            return Step(attempts, self._refused.wait_seconds(before + 1))
        if attempts >= self.park_after:
            return Step(attempts, None)
        return Step(attempts, self._fault.wait_seconds(before + 1))


def _is_of_one_kind(class_before: str, outcome: Outcome) -> bool:
    # A sender of another broker may have causes of its own.
    return class_before == outcome.cause or (class_before in OF_DESTINATION) == outcome.is_of_destination
