"""A span for each message of a signal that was written in a trace. Other signals cost only a check.

An error in tracing is logged and never prevents a send: the messages are then sent without spans.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..errors import Outcome
from ..failures import raise_if_stop
from ..tracing.context import StoredContext
from .amqp.message import Message
from .amqp.url import BrokerNode

if TYPE_CHECKING:
    from .spans import Span, Spans

logger = logging.getLogger("signalbus")

_logged: set[type[BaseException]] = set()


class PublishTrace:
    """The spans of one publish. A context manager: at its end no span is left open.

    :param node: of the broker, for the spans' attributes; None when it is not known before the publish.
    """

    def __init__(self, node: BrokerNode | None) -> None:
        self._node = node
        self._spans: Spans | None = None
        self._open: dict[int, list[Span]] = {}

    def __enter__(self) -> PublishTrace:
        return self

    def __exit__(self, *_: object) -> None:
        # The publish was aborted: the outcomes of its messages are not known.
        for span in chain.from_iterable(self._open.values()):
            _end(span, None)

    def begin(
        self, index: int, context: StoredContext, drafts: list[Any], message_of: Callable[[Any], Message]
    ) -> list[Any]:
        """Start a span for each message of a signal; return the messages with the spans' contexts as headers.

        :param index: the index of the signal in the publish.
        :param context: in which the signal was written.
        :param message_of: makes the message of a draft.
        :returns: the drafts as they are where no span was started.
        """
        if not _is_available():
            return drafts
        messages = [message_of(draft) for draft in drafts]
        try:
            spans, messages = self._begin(context, messages)
        except BaseException as error:  # noqa: BLE001 - the application's sampler and processors may raise anything
            raise_if_stop(error)
            _complain(error)
            return drafts
        if spans:
            self._open[index] = spans
        return messages

    def end(self, outcomes: Callable[[], Sequence[Sequence[Outcome]]]) -> None:
        """End all spans.

        :param outcomes: returns the outcomes of the messages of each signal, in order. Not called without a span.
        """
        if not self._open:
            return
        answers = outcomes()
        for index, spans in self._open.items():
            for span, outcome in zip(spans, answers[index], strict=True):
                _end(span, outcome)
        self._open = {}

    def _begin(self, context: StoredContext, messages: list[Message]) -> tuple[list[Span], list[Message]]:
        if self._spans is None:
            from .spans import Spans

            self._spans = Spans(self._node)
        return self._spans.begin(context, messages)


@cache
def _is_available() -> bool:
    """Whether OpenTelemetry is installed. Checked once, for the first signal with a trace context."""
    try:
        from . import spans  # noqa: F401
    except ImportError:
        return False
    return True


def _end(span: Span, outcome: Outcome | None) -> None:
    try:
        span.end(outcome)
    except BaseException as error:  # noqa: BLE001 - as above
        raise_if_stop(error)
        _complain(error)


def _complain(error: BaseException) -> None:
    """Log each kind of error once per process: errors in tracing tend to repeat for every message."""
    if type(error) not in _logged:
        _logged.add(type(error))
        logger.warning(
            "Tracing fails (%s); the signals concerned are sent without spans.",
            type(error).__name__,
            exc_info=error,
            extra={"action": "tracing_failed"},
        )
