"""What an option is: its names, its type, its default and its help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: The prefix of an option's name in the environment, and in the application's configuration.
PREFIX = "SIGNALBUS_RELAY_"


@dataclass(frozen=True)
class Option:
    """An option of ``signalbus-relay run``.

    :param name: on the command line, without dashes.
    :param field: of :class:`~relay.config.resolve.RelayConfig`, which has to have it.
    :param parse: turns a text, or a value of the application's configuration, into the value; its ValueError says what
      is expected.
    :param default: used when nothing else gives a value.
    :param fallbacks: environment variables that are used when nothing else gives a value.
    :param is_secret: may also come from a file whose path is in the variable with ``_FILE``; its value is never shown.
    """

    name: str
    field: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    metavar: str = ""
    many: bool = False
    is_flag: bool = False
    is_secret: bool = False
    fallbacks: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """Its name in the environment, and in the application's configuration."""
        return PREFIX + self.name.upper().replace("-", "_")
