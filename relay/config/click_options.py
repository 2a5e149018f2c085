"""Adds the table of options to commands, and ends a command that fails."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn, TypeVar

import click

from ..exit_codes import EXIT_CONFIGURATION
from ..text import say
from .option import Option
from .options import OPTIONS
from .subject import ABOUT

F = TypeVar("F", bound=Callable[..., Any])


def with_options(command: F) -> F:
    """Add all options of the configuration to a command."""
    return _with_fields(command, {option.field for option in OPTIONS})


def _click_arguments(option: Option) -> dict[str, Any]:
    text = f"{option.help}  [{option.variable}{'[_FILE]' if option.is_secret else ''}]"
    if option.is_flag:
        return {"is_flag": True, "default": False, "help": text}
    # All values are read as text and checked together, so that all problems are reported at once.
    arguments: dict[str, Any] = {"type": str, "metavar": option.metavar, "help": text, "multiple": option.many}
    return arguments if option.many else {**arguments, "default": None}


def with_application(command: F) -> F:
    """Add the options that name what is relayed."""
    return _with_fields(command, ABOUT)


def with_application_but_where(command: F) -> F:
    """The same for a command with a ``--where`` of its own; which rows of tables are sent, the environment says."""
    return _with_fields(command, ABOUT - {"where"})


def _with_fields(command: F, fields: Collection[str]) -> F:
    for option in reversed([option for option in OPTIONS if option.field in fields]):
        command = click.option(f"--{option.name}", option.field, **_click_arguments(option))(command)
    return command


def fail(error: Exception, exit_code: int = EXIT_CONFIGURATION) -> NoReturn:
    """Print what is wrong, without a traceback: it is a problem of configuration, not of code."""
    for line in getattr(error, "problems", None) or [str(error)]:
        say(f"signalbus-relay: {line}", err=True)
    sys.exit(exit_code)
