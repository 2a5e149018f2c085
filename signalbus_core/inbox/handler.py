"""The decorator for handlers: the function runs only for messages that are new."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar, cast

from sqlalchemy import Table

from ..errors import SetupError
from ..failures import discard_unfinished
from .origin import made_from, place_of
from .receive import consumer_name, receive

F = TypeVar("F", bound=Callable[..., Any])

#: Which function has which name, so that no two share one: the second would skip what the first has processed.
_handlers: dict[str, tuple[tuple[str, str, int], str]] = {}


def once(consumer: str, *, table: Table | None = None) -> Callable[[F], F]:
    """Make a function process each message once. Its first two arguments are the session and the id of the message.

    ::

        @inbox.once("billing")
        def bill(session, message_id, order): ...

        @inbox.once("packing")
        async def pack(session, message_id, order): ...     # with an AsyncSession

    The message is recorded in the transaction of the session, by :func:`receive`. The caller commits, and acknowledges
    the message after that. For a message that is not new, the function is not called, and None is returned.

    :param consumer: the name of the handler. No two functions of a program may have the same.
    :param table: as for :func:`receive`.
    :raises SetupError: the name cannot be used; or another function has it, or the same one that a factory has made
      from other values; or the function is a generator, or
      returns one when it is called.
    """
    name = consumer_name(consumer)

    def decorate(handler: F) -> F:
        if isgeneratorfunction(handler) or isasyncgenfunction(handler):
            raise SetupError(
                f"{handler} is a generator: its code would run after the message was recorded. Use a function."
            )
        _claim(name, handler)
        if iscoroutinefunction(handler):

            @wraps(handler)
            async def handle_async(session: Any, message_id: Any, *args: Any, **kwargs: Any) -> Any:
                if not hasattr(session, "run_sync"):
                    raise SetupError(f"An async handler needs an AsyncSession, not {type(session).__name__}.")
                if not await session.run_sync(receive, message_id, name, table=table):
                    return None
                return _finished(handler, await handler(session, message_id, *args, **kwargs))

            return cast(F, handle_async)

        @wraps(handler)
        def handle(session: Any, message_id: Any, *args: Any, **kwargs: Any) -> Any:
            if not receive(session, message_id, name, table=table):
                return None
            return _finished(handler, handler(session, message_id, *args, **kwargs))

        return cast(F, handle)

    return decorate


def _finished(handler: Callable[..., Any], returned: object) -> object:
    """What a handler has returned, once its code has run."""
    if (kind := discard_unfinished(returned)) is not None:
        raise SetupError(f"{handler} returned a {kind}, so its code has not run. Roll back: the message is new then.")
    return returned


def _claim(name: str, handler: Callable[..., Any]) -> None:
    origin = (place_of(handler), made_from(handler))
    owner = _handlers.setdefault(name, origin)
    if owner == origin:
        return
    (_, known, _), (_, new, _) = owner[0], origin[0]
    both = f"{new} and {known}" if owner[0] != origin[0] else f"Two handlers that {new} makes of different values"
    raise SetupError(
        f"{both} are both the consumer {name!r}: of each message that both receive, one would skip what the other has "
        "done. Give each a name of its own."
    )
