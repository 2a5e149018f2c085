"""The report as a page: what was measured, on what, and what follows from it."""

from __future__ import annotations

from pathlib import Path

from ..figures import Figures
from .advice import advice
from .pictures import PICTURES
from .targets import targets
from .texts import CHAPTERS, HEAD


def write(figures: Figures, path: Path) -> None:
    """Write the page, and its pictures into a directory of its name beside it."""
    pictures = path.with_suffix("")
    pictures.mkdir(parents=True, exist_ok=True)
    drawn = {name: picture for name, draw in PICTURES.items() if (picture := draw(figures)) is not None}
    for name, picture in drawn.items():
        (pictures / f"{name}.svg").write_text(picture)
    path.write_text(page(figures, {name: f"{pictures.name}/{name}.svg" for name in drawn}))


def page(figures: Figures, pictures: dict[str, str]) -> str:
    parts = [HEAD, _machine(figures), "## Targets\n\n" + targets(figures)]
    for chapter in CHAPTERS:
        picture = f"![{chapter.title}]({pictures[chapter.name]})" if chapter.name in pictures else ""
        tables = [text for make in chapter.tables if (text := make(figures))]
        parts.append("\n\n".join(part for part in (f"## {chapter.title}", chapter.text, picture, *tables) if part))
    return "\n\n".join([*parts, advice(figures)]) + "\n"


def _machine(figures: Figures) -> str:
    known = ", ".join(f"{name} {value}" for name, value in figures.machine.items())
    days = sorted({section["day"] for section in figures.sections.values() if "day" in section})
    rounds = (
        "Some of it is a quick run, which says little."
        if any(section["is_quick"] for section in figures.sections.values())
        else "Each figure is the median of the rounds, with the lowest and the highest in brackets."
    )
    return f"Measured on: {known}. {' and '.join(dict.fromkeys((days[0], days[-1])))}. {rounds}" if days else rounds
