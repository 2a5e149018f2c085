"""The interface of a connection to the broker, and its errors. Only one thread at a time uses a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from ...errors import Outcome, OutcomeKind, SignalBusError
from ..confirms import Confirms, Content
from .url import BrokerNode


class BrokerConnectionError(SignalBusError):
    """The broker cannot be reached, or the connection was lost. The text has no password.

    :param was_refused: the broker answered, and refused the login.
    """

    def __init__(self, text: str, *, was_refused: bool = False) -> None:
        self.was_refused = was_refused
        super().__init__(text)


class ChannelClosedError(Exception):
    """The broker closed the channel.

    :param code: the AMQP reply code, for example 404.
    :param text: the broker's reply text.
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text
        super().__init__(f"{code} {text}")


class NoAnswerError(Exception):
    """The broker did not confirm all messages in time, although the connection was open and not blocked."""


class ConnectionClosedError(Exception):
    """The broker closed the connection with a reply code, as it does after malformed frames.

    :param code: the AMQP reply code, for example 501.
    :param is_about_this_call: only messages of this call were in flight.
    """

    def __init__(self, code: int, reason: str, *, is_about_this_call: bool) -> None:
        self.code = code
        self.is_about_this_call = is_about_this_call
        super().__init__(reason)


#: Why there are no more answers; None when every message is answered.
Problem = str | ChannelClosedError | ConnectionClosedError | NoAnswerError | None

#: Reply codes whose cause is the destination: no such exchange, no permission, exchange locked.
DESTINATION_CODES = frozenset({403, 404, 405})

#: Reply codes with which a broker closes the connection because of a message: malformed frame, malformed value, wrong
#: command, unexpected frame, not implemented. The same message would fail again. The cause of the others is an
#: administrator (320), the login (403), the virtual host (402, 530), the state of channels (504) or an error within the
#: broker (506, 541): no message is at fault.
#: https://www.rabbitmq.com/amqp-0-9-1-reference#constants
CONTENT_CODES = frozenset({501, 502, 503, 505, 540})


def outcome_of(problem: Problem, in_flight: int) -> Outcome:
    """The outcome of unanswered messages, when so many of them were in flight."""
    if not isinstance(problem, ConnectionClosedError) or problem.code not in CONTENT_CODES:
        return Outcome(OutcomeKind.UNKNOWN, str(problem))
    if in_flight == 1 and problem.is_about_this_call:
        return Outcome(OutcomeKind.INVALID, str(problem))
    return Outcome(OutcomeKind.UNKNOWN, str(problem), cause="closed")


class Link(Protocol):
    """An open connection with a channel in confirm mode. Its owner holds :attr:`lock` while it uses it."""

    #: The process that opened it; no other may use it.
    pid: int
    #: The node of the broker that it leads to.
    node: BrokerNode
    #: Why the broker takes no messages at the moment; None when it does.
    blocked_reason: str | None
    #: Exchanges that are known to exist.
    verified_exchanges: set[str]
    #: Exchanges that made the broker close a channel; their messages are sent alone until one is confirmed.
    suspect_exchanges: set[str]
    #: Hashes of messages that made the broker close a channel; they are sent alone until they are confirmed.
    suspect_messages: set[int]

    @property
    def lock(self) -> AbstractContextManager[Any]: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def closed_reason(self) -> str | None:
        """Why it is closed; None while it is open."""

    @property
    def was_short_of_channels(self) -> bool:
        """Whether the broker closed the connection because its user has reached a limit."""

    @property
    def heartbeat_seconds(self) -> float:
        """The heartbeat that was negotiated with the broker; 0 when there is none."""

    @property
    def frame_max(self) -> int: ...

    def pump(self) -> None:
        """Process heartbeats, a close or a block that are due, without waiting."""

    def check_channel_limit(self, timeout_seconds: float) -> None:
        """Open as many channels as are ever needed at once.

        :raises BrokerConnectionError: the broker allows fewer, or did not answer in time.
        """

    def channel_number(self, deadline: float) -> int:
        """The number of the open channel; opens one when there is none.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        """

    def send(
        self, chunks: Sequence[tuple[bytes, int]], content_of: Callable[[int], Content], deadline: float
    ) -> tuple[Confirms, Problem]:
        """Send encoded messages and wait for the broker's answers.

        :param chunks: the data of each message, with its number of frames.
        :returns: the answers, and why there are no more of them: the channel or the connection was closed, or the
          deadline passed (the connection is dropped then, unless the broker has blocked it). None when all messages
          are answered.
        """

    def exchange_exists(self, name: str, deadline: float) -> bool:
        """Ask the broker whether it has an exchange.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        :raises ChannelClosedError: the broker refused the query.
        """

    def abort(self, reason: str) -> None:
        """Drop the connection without an AMQP close, and free its socket."""

    def close(self) -> None:
        """Close with an AMQP close."""
