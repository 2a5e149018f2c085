"""The output of commands: tables, times, and colours only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import IO

import click


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with rows under the names of their columns. The last column is not padded."""
    lines = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]).rstrip()
        for line in lines
    ]


def time_text(moment: datetime | None) -> str | None:
    """A time as commands show it: UTC, to the second."""
    return None if moment is None else moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


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


def one_line(text: str) -> str:
    """An external text in one line, without control characters for a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def coloured(text: str, colour: str, environ: Mapping[str, str], stream: IO[str] | None = None) -> str:
    """The text in a colour, on a terminal and without NO_COLOR.

    https://no-color.org
    """
    stream = stream or sys.stdout
    wanted = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return click.style(text, fg=colour) if wanted else text
