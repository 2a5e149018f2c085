"""The output for people: lines, tables, times, and colours only on a terminal.

Invariant: no text that is shown holds a password, and none moves a terminal's cursor or makes a line of its own.
Commands print with :func:`say`, data for programs with :func:`say_data`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import IO

import click

from signalbus_core.lowlevel import one_line

#: The password of a URL, up to the last @ before the next space: passwords may contain an @, a colon and a slash. Only
#: in http URLs a number before a slash is a port, not the start of a password.
_PASSWORD = re.compile(r"(?P<start>(?:(?<=http)|(?<=https))://[^\s/:]*:(?!\d+/)|(?<!http)(?<!https)://[^\s/:]*:)\S+@")

#: The value of a parameter with such a name in a DSN or in the query of a URL.
_PARAMETER = re.compile(r"""(?P<start>passw(?:or)?d=)(?:'[^']*'|"[^"]*"|[^\s&'"]+)""", re.IGNORECASE)

#: An unescaped @ in a password ends it too soon: an error message shows the rest as a part of the host name.
_HOST = re.compile(r"""(?P<start>(?:host(?: name)?|server at) ["'])[^"'\s]*@""")


def redact(text: str) -> str:
    """Replace the passwords in a text, as URLs, DSNs and the errors about them show them."""
    text = _PARAMETER.sub(r"\g<start>***", _PASSWORD.sub(r"\g<start>***@", text))
    return _HOST.sub(r"\g<start>***@", text)


def redacted(value: object) -> object:
    """The value with the passwords in its texts replaced."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, (list, tuple)):
        return [redacted(one) for one in value]
    if isinstance(value, dict):
        return {str(key): redacted(one) for key, one in value.items()}
    return value


def say(
    text: str, *, err: bool = False, mark: str = "", colour: str | None = None, environ: Mapping[str, str] | None = None
) -> None:
    """Print one line.

    :param colour: on a terminal, as the environment allows: of the mark before the line; of the line where it has none.
    """
    line = one_line(redact(text))
    painted = mark or line
    if colour is not None:
        painted = coloured(painted, colour, environ or {}, sys.stderr if err else sys.stdout)
    click.echo(f"{painted} {line}" if mark else painted, err=err)


def say_text(text: str) -> None:
    """Print lines that a program has made of nothing but its own words and numbers."""
    for line in redact(text).split("\n"):
        click.echo(one_line(line))


def confirm(question: str) -> None:
    """Ask, on standard error; without a yes the command ends."""
    click.confirm(one_line(redact(question)), abort=True, err=True)


def say_data(text: str) -> None:
    """Print for a program, as it is: JSON, which escapes what is not printable, or SQL, whose names must stay exact."""
    click.echo(text)


def comment(text: str) -> str:
    """A text as one comment of SQL, which no name in it ends."""
    return f"-- {one_line(text)}"


def shell_word(text: str) -> str:
    """A text as one word of a command for the shell."""
    # https://www.gnu.org/software/bash/manual/html_node/ANSI_002dC-Quoting.html
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(_ESCAPED.get(letter) or _shell_letter(letter) for letter in text)
    return f"$'{escaped}'"


def signal_words(model: str, key: str) -> str:
    """A model and a key as arguments of a command for the shell; a key that begins like an option is none."""
    words = f"{shell_word(model)} {shell_word(key)}"
    return f"-- {words}" if key.startswith("-") else words


_ESCAPED = {"'": "\\'", "\\": "\\\\"}


def _shell_letter(letter: str) -> str:
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with rows under the names of their columns. The last column is not padded."""
    lines = [tuple(columns), *(tuple(map(one_line, row)) for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]


def time_text(moment: datetime | None) -> str | None:
    """A time as commands show it: UTC, to the second."""
    return None if moment is None else moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(seconds: float) -> datetime:
    """A time of the wall clock, given in seconds since the epoch."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc)


def duration_text(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def coloured(text: str, colour: str, environ: Mapping[str, str], stream: IO[str] | None = None) -> str:
    """The text in a colour, on a terminal and without NO_COLOR.

    https://no-color.org
    """
    stream = stream or sys.stdout
    wanted = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return click.style(text, fg=colour) if wanted else text


def behind_text(number: int) -> str:
    """How many signals wait behind another one of their key."""
    return f"{number:,} {'waits' if number == 1 else 'wait'} behind it"
