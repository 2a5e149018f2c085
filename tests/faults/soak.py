"""Faults at random, for as long as you like: ``make soak MINUTES=30 SEED=1``.

The seed decides the order of the faults, and for each what chance decides in it; the same seed replays the same order.
A failed check does not end the run, but its exit code is 1 then.
"""

from __future__ import annotations

import argparse
import random
import re
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from . import trial
from .catalogue import FAULTS
from .fault import Fault
from .trial import Report
from .world import World

HEADINGS = ("fault", "times", "signals", "lost", "phantom", "duplicates", "recovery, median", "longest")


def order(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Faults without end: first each of them once, then by their weights."""
    chance = random.Random(seed)
    yield from chance.sample(faults, len(faults))
    while True:
        yield from chance.choices(faults, [fault.weight for fault in faults])


def chance_of(seed: int, number: int) -> random.Random:
    """What decides within the fault of this number."""
    return random.Random(f"{seed}/{number}")


def table(reports: Sequence[Report]) -> list[str]:
    """The figures as Markdown, a row a fault, and their sum."""
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
    names = [fault.name for fault in FAULTS]
    for name in sorted({report.fault.name for report in reports}, key=names.index):
        lines.append(_row(name, [report for report in reports if report.fault.name == name]))
    lines.append(_row("all", reports))
    return lines


def _row(name: str, reports: Sequence[Report]) -> str:
    figures = [report.figures for report in reports if report.figures is not None]
    seconds = [report.recovered_seconds for report in reports if report.recovered_seconds is not None]
    cells = [
        name,
        str(len(reports)),
        str(sum(one.committed for one in figures)),
        str(sum(one.lost for one in figures)),
        str(sum(one.phantom for one in figures)),
        str(sum(one.duplicates for one in figures)),
        f"{median(seconds):.1f} s" if seconds else "never",
        f"{max(seconds):.1f} s" if seconds else "never",
    ]
    return f"| {' | '.join(cells)} |"


def with_table(page: str, lines: Sequence[str]) -> str:
    """The page with the table in its place."""
    block = "<!-- faults -->\n" + "\n".join(lines) + "\n<!-- /faults -->"
    return re.sub(r"<!-- faults -->.*?<!-- /faults -->", lambda _: block, page, flags=re.DOTALL)


def run(world: World, seed: int, minutes: float, only: str = "") -> list[Report]:
    faults = [fault for fault in FAULTS if only in fault.name]
    reports: list[Report] = []
    ends = time.monotonic() + minutes * 60
    for number, fault in enumerate(order(faults, seed), start=1):
        if time.monotonic() >= ends:
            return reports
        report = trial.run(world, fault, chance_of(seed, number))
        reports.append(report)
        _tell(number, report)
        for problem in report.problems:
            _say(f"  seed {seed}, number {number}: {problem}")
    return reports


def _tell(number: int, report: Report) -> None:
    figures, seconds = report.figures, report.recovered_seconds
    told = f"{figures.committed} signals, {figures.duplicates} duplicates" if figures else "no figures"
    recovered = "" if seconds is None else f", recovered after {seconds:.1f} s"
    _say(f"{number} {report.fault.name}: {told}{recovered}{', FAILED' if report.problems else ''}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="replays the order of an earlier run")
    parser.add_argument("--report", type=Path, default=None, help="a Markdown page with a place for the table")
    parser.add_argument("--only", default="", help="only faults with this in their name")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    _say(f"seed {seed}")
    started = time.monotonic()
    with World() as world:
        reports = run(world, seed, given.minutes, given.only)
    lines = table(reports)
    failed = sum(bool(report.problems) for report in reports)
    minutes = (time.monotonic() - started) / 60
    _say("\n".join(lines))
    _say(f"seed {seed}: {len(reports)} faults in {minutes:.1f} minutes, {failed} of them with failed checks")
    if given.report is not None and given.report.exists():
        given.report.write_text(with_table(given.report.read_text(), lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
