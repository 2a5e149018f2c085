"""Why a drill has no verdict.

::

    Exception
    ├── DrillUsageError      it could not begin
    ├── DrillFailedError     it began, and could not be carried through
    └── DrillInterrupted     it was asked to stop
"""

from __future__ import annotations

from collections.abc import Sequence


class DrillUsageError(Exception):
    """The drill cannot begin.

    :param problems: what is wrong, one line each, all of them, without passwords.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DrillFailedError(Exception):
    """The drill could not be carried through; the text says which part failed."""


class DrillInterrupted(Exception):
    """The drill was asked to stop by a POSIX signal."""
