"""The interface of a connection to the broker, and its errors. Only one thread at a time uses a connection."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

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


class Link(ABC):
    """An open connection with a channel in confirm mode. Its owner holds :attr:`lock` while it uses it.

    :param node: the node of the broker that it leads to.
    """

    def __init__(self, node: BrokerNode) -> None:
        self.node = node
        self.lock = threading.RLock()
        #: The process that opened it; no other may use it.
        self.pid = os.getpid()
        #: Why the broker takes no messages at the moment; None when it does.
        self.blocked_reason: str | None = None
        #: Exchanges that are known to exist.
        self.verified_exchanges: set[str] = set()
        #: Exchanges that made the broker close a channel; their messages are sent alone until one is confirmed.
        self.suspect_exchanges: set[str] = set()
        #: Hashes of messages that made the broker close a channel; they are sent alone until they are confirmed.
        self.suspect_messages: set[int] = set()
        self._closed_reason: str | None = None

    @property
    def is_open(self) -> bool:
        return self._closed_reason is None

    @property
    def closed_reason(self) -> str | None:
        """Why it is closed; None while it is open."""
        return self._closed_reason

    @property
    @abstractmethod
    def was_short_of_channels(self) -> bool:
        """Whether the broker closed the connection because its user has reached a limit."""

    @property
    @abstractmethod
    def heartbeat_seconds(self) -> float:
        """The heartbeat that was negotiated with the broker; 0 when there is none."""

    @property
    @abstractmethod
    def frame_max(self) -> int: ...

    @abstractmethod
    def pump(self) -> None:
        """Process heartbeats, a close or a block that are due, without waiting."""

    @abstractmethod
    def check_channel_limit(self, timeout_seconds: float) -> None:
        """Open as many channels as are ever needed at once.

        :raises BrokerConnectionError: the broker allows fewer, or did not answer in time.
        """

    @abstractmethod
    def channel_number(self, deadline: float) -> int:
        """The number of the open channel; opens one when there is none.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        """

    @abstractmethod
    def send(
        self, chunks: Sequence[tuple[bytes, int]], content_of: Callable[[int], Content], deadline: float
    ) -> tuple[Confirms, Problem]:
        """Send encoded messages and wait for the broker's answers.

        :param chunks: the data of each message, with its number of frames.
        :returns: the answers, and why there are no more of them: the channel or the connection was closed, or the
          deadline passed (the connection is dropped then, unless the broker has blocked it). None when all messages
          are answered.
        """

    @abstractmethod
    def exchange_exists(self, name: str, deadline: float) -> bool:
        """Ask the broker whether it has an exchange.

        :raises BrokerConnectionError: the connection was lost, or the broker did not answer in time.
        :raises ChannelClosedError: the broker refused the query.
        """

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Drop the connection without an AMQP close, and free its socket."""

    @abstractmethod
    def close(self) -> None:
        """Close with an AMQP close."""
