"""Faults at random, for as long as you like: ``make soak MINUTES=30 WORLDS=3 SEED=1``, ``make soak CLUSTER=1``.

The seed decides the order of the faults, and for each what chance decides in it; the same seed replays the same order.
A failed check does not end the run, but its exit code is 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import faults_cluster, trial
from .catalogue import FAULTS
from .cluster_world import ClusterWorld
from .fault import Fault
from .trial import Report
from .world import World

#: The figures of a fault, in the order of their columns; ``most_often`` is the largest, the others are added up.
COUNTED = ("signals", "lost", "phantom", "inversions", "early", "late", "duplicates", "most_often")

HEADINGS = ("fault", "times", *(name.replace("_", " ") for name in COUNTED), "recovery, median", "longest")


def order(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Faults without end: first each of them once, then by their weights."""
    chance = random.Random(seed)
    yield from chance.sample(faults, len(faults))
    while True:
        yield from chance.choices(faults, [fault.weight for fault in faults])


def chance_of(seed: int, number: int) -> random.Random:
    """What decides within the fault of this number."""
    return random.Random(f"{seed}/{number}")


@dataclass(frozen=True)
class Row:
    """What came of one fault, as it goes from a world to the table."""

    name: str
    signals: int
    lost: int
    phantom: int
    inversions: int
    early: int
    late: int
    duplicates: int
    most_often: int
    recovered_seconds: float | None
    is_good: bool


def row_of(report: Report) -> Row:
    figures = report.figures
    is_good = not report.problems
    if figures is None:
        return Row(report.fault.name, 0, 0, 0, 0, 0, 0, 0, 0, report.recovered_seconds, is_good)
    return Row(
        report.fault.name,
        figures.committed,
        figures.lost,
        figures.phantom,
        figures.inversions,
        figures.early,
        figures.late,
        figures.duplicates,
        figures.most_often,
        report.recovered_seconds,
        is_good,
    )


def table(rows: Sequence[Row]) -> list[str]:
    """The figures as Markdown, a line a fault, and their sum."""
    lines = [f"| {' | '.join(HEADINGS)} |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
    names = [fault.name for fault in (*FAULTS, *faults_cluster.FAULTS, *faults_cluster.STREAM_FAULTS)]
    for name in sorted({row.name for row in rows}, key=names.index):
        lines.append(_line(name, [row for row in rows if row.name == name]))
    lines.append(_line("all", rows))
    return lines


def _line(name: str, rows: Sequence[Row]) -> str:
    seconds = [row.recovered_seconds for row in rows if row.recovered_seconds is not None]
    cells = [
        name,
        str(len(rows)),
        *(str((max if one == "most_often" else sum)(getattr(row, one) for row in rows)) for one in COUNTED),
        f"{median(seconds):.1f} s" if seconds else "never",
        f"{max(seconds):.1f} s" if seconds else "never",
    ]
    return f"| {' | '.join(cells)} |"


def with_table(page: str, lines: Sequence[str], place: str = "faults") -> str:
    """The page with the table in its place."""
    block = f"<!-- {place} -->\n" + "\n".join(lines) + f"\n<!-- /{place} -->"
    return re.sub(rf"<!-- {place} -->.*?<!-- /{place} -->", lambda _: block, page, flags=re.DOTALL)


def run(seed: int, minutes: float, only: str = "", of_cluster: bool = False) -> list[Row]:
    """Break one world for so many minutes."""
    rows: list[Row] = []
    with ClusterWorld() if of_cluster else World() as world:
        faults = [fault for fault in _faults(world) if only in fault.name]
        ends = time.monotonic() + minutes * 60
        for number, fault in enumerate(order(faults, seed), start=1):
            if time.monotonic() >= ends:
                return rows
            report = trial.run(world, fault, chance_of(seed, number))
            rows.append(row_of(report))
            _tell(seed, number, report)
    return rows


def _faults(world: World) -> list[Fault]:
    if not isinstance(world, ClusterWorld):
        return FAULTS
    return faults_cluster.FAULTS + (faults_cluster.STREAM_FAULTS if world.has_streams else [])


def run_worlds(seed: int, minutes: float, only: str, worlds: int, of_cluster: bool = False) -> list[Row]:
    """Break several worlds at the same time, each with a seed of its own: ``seed``, ``seed + 1``, and so on.

    Most of the time a world waits, so that two processors bear several.
    """
    if worlds == 1:
        return run(seed, minutes, only, of_cluster)
    with ProcessPoolExecutor(worlds, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(run, seed + number, minutes, only, of_cluster) for number in range(worlds)]
        return [row for one in running for row in one.result()]


def _tell(seed: int, number: int, report: Report) -> None:
    figures, seconds = report.figures, report.recovered_seconds
    told = f"{figures.committed} signals, {figures.duplicates} duplicates" if figures else "no figures"
    recovered = "" if seconds is None else f", recovered after {seconds:.1f} s"
    _say(f"{seed}/{number} {report.fault.name}: {told}{recovered}{', FAILED' if report.problems else ''}")
    for problem in report.problems:
        _say(f"  seed {seed}, number {number}: {problem}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="replays the order of an earlier run")
    parser.add_argument("--worlds", type=int, default=1, help="so many worlds side by side, with seeds in a row")
    parser.add_argument("--report", type=Path, default=None, help="a Markdown page with a place for the table")
    parser.add_argument("--only", default="", help="only faults with this in their name")
    parser.add_argument("--cluster", action="store_true", help="break a cluster of three nodes")
    given = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    _say(f"seed {seed}")
    started = time.monotonic()
    rows = run_worlds(seed, given.minutes, given.only, given.worlds, given.cluster)
    lines = table(rows)
    failed = sum(not row.is_good for row in rows)
    minutes = (time.monotonic() - started) / 60
    caption = (
        f"Seed {seed}: {len(rows)} faults in {minutes:.0f} minutes, in {given.worlds} worlds side by side; "
        f"{failed} of them with failed checks."
    )
    lines += ["", caption]
    _say("\n".join(lines))
    if given.report is not None and given.report.exists():
        given.report.write_text(
            with_table(given.report.read_text(), lines, "cluster-faults" if given.cluster else "faults")
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
