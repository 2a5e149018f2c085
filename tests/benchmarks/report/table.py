"""The figures of a section as a table: a row for each variant, a column for each figure."""

from __future__ import annotations

from ..figures import Figures
from .numbers import HEADINGS, shown


def table(figures: Figures, section: str, *, first: str = "", without: str | tuple[str, ...] = ()) -> str:
    """A table of the section; nothing when it was not measured.

    :param first: only variants whose names begin so.
    :param without: but none whose names begin so.
    """
    variants = [name for name in figures.variants(section) if name.startswith(first) and not name.startswith(without)]
    columns = [
        name for name in HEADINGS if any(figures.get(section, variant, name) is not None for variant in variants)
    ]
    if not variants:
        return "Not measured."
    lines = [
        "| | " + " | ".join(HEADINGS[name][0] for name in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for variant in variants:
        cells = [shown(figures.get(section, variant, name), HEADINGS[name][1]) for name in columns]
        lines.append(f"| {variant.removeprefix(first)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
