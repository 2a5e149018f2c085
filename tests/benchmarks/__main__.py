"""``make bench``: measure, note the figures, and write the report.

Sections can be measured alone; the others keep the figures that they had, and the report is written anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import registry
from .figures import Figures
from .places import FIGURES, REPORT
from .report.page import write
from .section import Section
from .settings import FULL, QUICK, TINY, Scale
from .world import World


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    figures = Figures.load(options.figures)
    if not options.report_only:
        with World() as world:
            for section in options.only:
                _measure(world, section, options.scale, figures)
                # After each: what was measured is kept, whatever becomes of the next.
                figures.save(options.figures)
    write(figures, options.report)
    return 0


def _measure(world: World, section: Section, scale: Scale, figures: Figures) -> None:
    started = time.monotonic()
    figures.begin(section.name, scale)
    for number in range(min(scale.rounds, section.most_rounds)):
        sys.stderr.write(f"{section.name}: round {number + 1}\n")
        figures.add(section.name, section.measure(world, scale))
    figures.end(section.name, time.monotonic() - started)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"sections, parted by commas: {', '.join(registry.SECTIONS)}")
    parser.add_argument("--quick", dest="scale", action="store_const", const=QUICK, default=FULL)
    parser.add_argument("--tiny", dest="scale", action="store_const", const=TINY, help=argparse.SUPPRESS)
    parser.add_argument("--report-only", action="store_true", help="measure nothing, write the report anew")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args(arguments)
    names = [name for name in options.only.split(",") if name]
    unknown = set(names) - set(registry.SECTIONS)
    if unknown:
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are: {', '.join(registry.SECTIONS)}")
    options.only = [registry.SECTIONS[name] for name in names or registry.SECTIONS]
    return options


if __name__ == "__main__":
    sys.exit(main())
