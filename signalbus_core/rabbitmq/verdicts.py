"""What an end without an answer says about the messages that were in flight."""

from __future__ import annotations

from ..outcome import Outcome, OutcomeKind
from .link import ConnectionClosedError

#: Reply codes that tell of the destination: no such exchange, no permission, exchange locked.
DESTINATION_CODES = frozenset({403, 404, 405})

#: Reply codes with which a broker closes the connection because of what was sent: malformed frame, malformed value,
#: wrong command, unexpected frame, something that it has not got. Sent again, the same would end the same way. The
#: others tell of an administrator (320), the login (403), the virtual host (402, 530), the state of channels (504) or
#: the broker's own trouble (506, 541), which passes without a change to any message: a message is not blamed for it.
#: https://www.rabbitmq.com/amqp-0-9-1-reference#constants
CONTENT_CODES = frozenset({501, 502, 503, 505, 540})

#: Stands for "nothing is known yet" while the answers are gone through.
UNANSWERED = Outcome(OutcomeKind.UNKNOWN)


def no_answer(problem: object, in_flight: int) -> Outcome:
    """The outcome of messages that the broker has not answered for, when so many of them were in flight."""
    if not isinstance(problem, ConnectionClosedError) or problem.code not in CONTENT_CODES:
        return Outcome(OutcomeKind.UNKNOWN, str(problem))
    if in_flight == 1 and problem.is_about_this_call:
        return Outcome(OutcomeKind.INVALID, str(problem))
    return Outcome(OutcomeKind.UNKNOWN, str(problem), cause="closed")
