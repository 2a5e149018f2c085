"""The batch: the messages of one publish. Each gets one outcome, which claims no more than the broker has answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from typing import Any

from pika.exceptions import AMQPError

from ..errors import ACKED, Outcome, OutcomeKind
from ..model.sending.progress import report_bytes
from .amqp.encoder import AS_THEY_ARE, MessageMaker, encoder_for
from .amqp.errors import describe
from .amqp.frames import EncodedMessage
from .amqp.message import InvalidMessageError
from .amqp.protocol import (
    DESTINATION_CODES,
    BrokerConnectionError,
    ChannelClosedError,
    Link,
    NoAnswerError,
    Problem,
    outcome_of,
)
from .confirms import Confirms, Content
from .destination_breaker import TRIAL_SECONDS, Address, DestinationBreaker, named

#: Placeholder for "not known yet" while the answers are processed.
UNANSWERED = Outcome(OutcomeKind.UNKNOWN)

_NO_ANSWER = Outcome(OutcomeKind.UNKNOWN, "no answer from the broker")


class Batch:
    """The messages of one publish.

    :param groups: drafts of messages that belong together: when one of a group cannot be sent, none of the group is.
    :param deadline: on the monotonic clock.
    :param breaker: the destinations that are known not to confirm.
    :param maker: of the drafts.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Any]],
        deadline: float,
        breaker: DestinationBreaker | None = None,
        maker: MessageMaker[Any] = AS_THEY_ARE,
    ) -> None:
        self._drafts = list(chain.from_iterable(groups))
        self._groups = _indexes_of(groups)
        self._deadline = deadline
        self._breaker = breaker or DestinationBreaker()
        self._maker = maker
        self._outcomes: list[Outcome | None] = [None] * len(self._drafts)
        self._encoded: dict[int, EncodedMessage] = {}

    def run(self, connection: Link) -> None:
        """Send everything over an open connection, unless the broker has blocked it."""
        with connection.lock:
            if connection.blocked_reason is not None:
                reason = f"not sent: the broker takes no messages ({connection.blocked_reason})"
                self.give_up(reason, was_sent=False)
                return
            try:
                together, alone, trials = self._plan(connection)
                if together:
                    chunks = [(self._encoded[index].data, self._encoded[index].frames) for index in together]
                    sent_at = self._breaker.now()
                    answers, problem = connection.send(
                        chunks, lambda number: self._content(together[number]), self._deadline
                    )
                    alone = [*self._settle(connection, together, answers, problem, sent_at), *alone]
                for index in alone:
                    self._send_alone(connection, index, self._deadline)
                for trial in trials:
                    self._send_trial(connection, trial)
            except BrokerConnectionError as error:
                self.give_up(str(error))
            except AMQPError as error:
                # The connection was lost between two steps, and its state is not known.
                connection.abort(describe(error))
                self.give_up(describe(error))

    def _plan(self, connection: Link) -> tuple[list[int], list[int], list[range]]:
        """Encode the messages; return which to send together, which alone, and the trials of silent destinations."""
        self._encode_all(connection)
        self._refuse_missing_exchanges(connection)
        trials = self._hold_back_silent()
        held_back = {index for trial in trials for index in trial}
        ordinary = [index for index in self._open() if index not in held_back]
        # Messages that closed a channel before are sent last, with no other message in flight.
        suspects = self._suspects(connection, ordinary)
        return [index for index in ordinary if index not in suspects], sorted(suspects), trials

    def give_up(self, reason: str, *, was_sent: bool = True) -> None:
        """Set the outcome of all messages that have none to unknown."""
        for index in self._open():
            self._outcomes[index] = Outcome(OutcomeKind.UNKNOWN, reason, was_sent=was_sent)

    @property
    def is_complete(self) -> bool:
        """Whether every message is confirmed."""
        return self._outcomes.count(ACKED) == len(self._outcomes)

    def outcomes(self) -> list[list[Outcome]]:
        """The outcome of each message, by group."""
        return [
            [self._addressed(index, self._outcomes[index] or _NO_ANSWER) for index in group] for group in self._groups
        ]

    def _addressed(self, index: int, outcome: Outcome) -> Outcome:
        if not outcome.is_of_destination or outcome.destination is not None:
            return outcome
        return replace(outcome, destination=named(self._address(index)))

    def _open(self) -> list[int]:
        return [index for index, outcome in enumerate(self._outcomes) if outcome is None]

    def _encode_all(self, connection: Link) -> None:
        encode = self._encoding(connection)
        for group in self._groups:
            for index in group:
                try:
                    self._encoded[index] = encode(self._drafts[index])
                except InvalidMessageError as error:
                    self._withhold(group, index, Outcome(OutcomeKind.INVALID, str(error)))
                    break
        report_bytes(sum([len(encoded.data) for encoded in self._encoded.values()]))

    def _encoding(self, connection: Link) -> Callable[[Any], EncodedMessage]:
        channel_number = connection.channel_number(self._deadline)
        return self._maker.encoding(encoder_for(channel_number, connection.frame_max, connection.node.login))

    def _refuse_missing_exchanges(self, connection: Link) -> None:
        """Refuse messages to missing exchanges: publishing them would close the channel with others in flight."""
        exchanges = dict.fromkeys([self._address(index)[0] for index in self._open()])
        problems = {exchange: self._problem_with(connection, exchange) for exchange in exchanges}
        if not any(problems.values()):
            return
        for group in self._groups:
            for index in group:
                if self._outcomes[index] is None and (problem := problems.get(self._address(index)[0])):
                    self._withhold(group, index, problem)
                    break

    def _problem_with(self, connection: Link, exchange: str) -> Outcome | None:
        try:
            if connection.exchange_exists(exchange, self._deadline):
                return None
        except ChannelClosedError as error:
            reason = str(error)
        else:
            reason = f"404 NOT_FOUND - no exchange {exchange!r} in the virtual host"
        # The destination is the exchange alone, for all routing keys.
        return Outcome(OutcomeKind.REFUSED, reason, destination=f"exchange {exchange!r}")

    def _withhold(self, group: Iterable[int], culprit: int, outcome: Outcome) -> None:
        """Send no message of the group, because one of them cannot be sent."""
        outcome = self._addressed(culprit, outcome)
        for index in group:
            reason = outcome.reason
            if index != culprit:
                reason = f"not sent, as another message of its signal: {reason}"
            self._outcomes[index] = Outcome(outcome.kind, reason, destination=outcome.destination)

    def _hold_back_silent(self) -> list[range]:
        """Hold back the messages for silent destinations; return the groups that are trials of such destinations."""
        trials: list[range] = []
        if not self._breaker.any_remembered:
            return trials
        for group in self._groups:
            for index in group:
                if self._outcomes[index] is not None:
                    continue
                address = self._address(index)
                seconds = self._breaker.silent_seconds(address)
                if seconds is None:
                    continue
                if self._breaker.claim_trial(address):
                    trials.append(group)
                else:
                    reason = (
                        f"not sent: nothing was confirmed for {named(address)} for {seconds:.0f} s, "
                        "while other messages were"
                    )
                    self._withhold(group, index, Outcome(OutcomeKind.REFUSED, reason))
                break
        return trials

    def _send_trial(self, connection: Link, group: range) -> None:
        """Send a group to a silent destination, with a short timeout."""
        for index in group:
            if connection.is_open:
                self._send_alone(connection, index, min(self._deadline, time.monotonic() + TRIAL_SECONDS))
            else:
                # An earlier message of the group was not confirmed.
                self._outcomes[index] = Outcome(OutcomeKind.REFUSED, "not sent: its destination is silent")

    def _learn(self, indexes: Sequence[int], waiting: Sequence[int], problem: object, sent_at: float) -> set[Address]:
        """Record which destinations confirmed; return those that did not in time while others did."""
        if not waiting and not self._breaker.any_remembered:
            # One confirmed destination is enough to distinguish a later silence from an outage.
            indexes = indexes[:1]
        answered = {self._address(index) for index in set(indexes) - set(waiting)}
        self._breaker.answered(answered)
        silent: set[Address] = set()
        if isinstance(problem, NoAnswerError):
            silent = {self._address(index) for index in waiting} - answered
            self._breaker.record_silence(silent, sent_at)
        return {address for address in silent if self._breaker.silent_seconds(address) is not None}

    def _address(self, index: int) -> Address:
        return self._encoded[index].address[:2]

    def _suspects(self, connection: Link, indexes: list[int]) -> set[int]:
        exchanges, hashes = connection.suspect_exchanges, connection.suspect_messages
        if not exchanges and not hashes:
            return set()
        return {
            index
            for index in indexes
            if self._address(index)[0] in exchanges or (hashes and self._hash(index) in hashes)
        }

    def _settle(
        self, connection: Link, indexes: list[int], answers: Confirms, problem: Problem, sent_at: float
    ) -> list[int]:
        """Record the outcomes of messages that were sent together; return those to send again, each alone."""
        outcomes = answers.outcomes(UNANSWERED)
        waiting: list[int] = []
        for index, outcome in zip(indexes, outcomes, strict=True):
            if outcome is UNANSWERED:
                waiting.append(index)
            else:
                self._outcomes[index] = outcome
        silent = self._learn(indexes, waiting, problem, sent_at)
        if isinstance(problem, ChannelClosedError):
            # The exchanges may have changed since they were verified.
            connection.verified_exchanges.clear()
            return waiting
        for index in waiting:
            is_silent = self._address(index) in silent
            outcome = outcome_of(problem, in_flight=len(waiting))
            self._outcomes[index] = replace(outcome, cause="silent") if is_silent else outcome
        return []

    def _send_alone(self, connection: Link, index: int, deadline: float) -> None:
        """Send one message with no other in flight, so that whatever the broker does is its answer to this one."""
        exchange, _ = self._address(index)
        if time.monotonic() >= deadline:
            self._outcomes[index] = Outcome(OutcomeKind.UNKNOWN, "not sent: no time was left", was_sent=False)
            return
        problem = self._problem_with(connection, exchange)
        if problem is not None:
            self._outcomes[index] = problem
            return
        encoded = self._encoded[index] = self._encoding(connection)(self._drafts[index])
        sent_at = self._breaker.now()
        confirms, closed = connection.send([(encoded.data, encoded.frames)], lambda _: self._content(index), deadline)
        [outcome] = confirms.outcomes(outcome_of(closed, in_flight=1))
        is_answered = confirms.is_done or isinstance(closed, ChannelClosedError)
        if self._learn([index], [] if is_answered else [index], closed, sent_at):
            outcome = replace(outcome, cause="silent")
        if isinstance(closed, ChannelClosedError) and closed.code in DESTINATION_CODES:
            connection.suspect_exchanges.add(exchange)
            outcome = Outcome(OutcomeKind.REFUSED, str(closed))
        elif isinstance(closed, ChannelClosedError):
            connection.suspect_messages.add(self._hash(index))
            outcome = Outcome(OutcomeKind.INVALID, str(closed))
        elif outcome is ACKED:
            connection.suspect_exchanges.discard(exchange)
            connection.suspect_messages.discard(self._hash(index))
        self._outcomes[index] = outcome

    def _hash(self, index: int) -> int:
        return hash(self._content(index).identity)

    def _content(self, index: int) -> Content:
        encoded = self._encoded[index]
        properties = self._maker.message(self._drafts[index]).properties
        exchange, routing_key, mandatory = encoded.address
        return Content(
            exchange=exchange,
            routing_key=routing_key,
            message_id=properties.message_id if properties else None,
            body=encoded.body,
            headers=properties.headers if properties else None,
            mandatory=mandatory,
        )


def _indexes_of(groups: Sequence[Sequence[Any]]) -> list[range]:
    ends = list(accumulate(map(len, groups), initial=0))
    return list(map(range, ends, ends[1:]))
