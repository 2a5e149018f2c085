"""The exit codes of ``signalbus-relay``, the request to end with one of them, and the error that ends a command."""

from __future__ import annotations

from dataclasses import dataclass

#: Ended as asked: drained, or nothing was left to send.
EXIT_OK = 0
#: Something failed while it ran.
EXIT_RUNTIME = 1
#: Wrong usage, configuration, application or tables: a restart without a change will not help.
EXIT_CONFIGURATION = 2
#: Bursts in flight did not end within the drain timeout, or a second stop request cut them short.
EXIT_DRAIN_TIMED_OUT = 3


@dataclass(frozen=True)
class StopRequest:
    """Why the relay should end, and with which exit code."""

    reason: str
    exit_code: int = EXIT_OK
    #: Requested by a POSIX signal; the second one ends the drain at once.
    by_signal: bool = False


class CommandError(Exception):
    """The command cannot do what was requested; the text says why. Exit code 1."""


class NotFoundError(CommandError):
    """There is no such signal model, or no such signal."""
