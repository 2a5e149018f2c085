"""Tests against other servers, pair by pair: ``make test-servers``, ``make test-servers RELEASES=forky``."""

from __future__ import annotations

import argparse
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.programs import ServersMissingError

from . import pairs
from .pairs import RELEASES, SUITE, Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "versions.md"

THIS_MACHINE = "installed"

HEADINGS = ("RabbitMQ", "PostgreSQL", "Python", "tests passed", "failed", "signals of the drill", "lost", "phantom")


def row(outcome: Outcome) -> str:
    cells = (
        outcome.rabbitmq,
        outcome.postgresql,
        platform.python_version(),
        outcome.passed,
        outcome.failed,
        outcome.committed,
        outcome.lost,
        outcome.phantom,
    )
    return f"| {' | '.join(map(str, cells))} |"


def with_rows(page: str, rows: Sequence[str]) -> str:
    """The page with these rows; each takes the place of one of the same series of both servers."""
    start, end = "<!-- servers -->\n", "<!-- /servers -->"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    known = {_series(line): line for line in rest.partition(end)[0].splitlines()[2:]}
    known |= {_series(line): line for line in rows}
    table = [f"| {' | '.join(HEADINGS)} |", "| ---: |" + " ---: |" * (len(HEADINGS) - 1)]
    table += [known[series] for series in sorted(known)]
    return before + start + "\n".join(table) + "\n" + end + after


def _series(line: str) -> tuple[int, ...]:
    """The series of both servers: 4.3 and 18."""
    found = re.match(r"\| (\d+)\.(\d+)\S* \| (\d+)", line)
    assert found is not None, line
    return tuple(map(int, found.groups()))


def main(arguments: Sequence[str] | None = None) -> int:
    names = [release or THIS_MACHINE for release in RELEASES]
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--drill-seconds", type=float, default=30.0)
    parser.add_argument("--releases", default=",".join(names), help=f"of {', '.join(names)}; with commas between")
    parser.add_argument("--write", action="store_true", help=f"write the rows into {PAGE.name}")
    given, rest = parser.parse_known_args(arguments)
    outcomes = []
    for name in given.releases.split(","):
        try:
            release = None if name == THIS_MACHINE else name
            outcome = pairs.run(release, jobs=given.jobs, drill_seconds=given.drill_seconds, arguments=rest)
        except ServersMissingError as error:
            sys.exit(str(error))
        outcomes.append(outcome)
        sys.stdout.write(f"{' and '.join(SUITE)}, and the drill:\n{row(outcome)}\n")
        sys.stdout.flush()
    if given.write:
        PAGE.write_text(with_rows(PAGE.read_text(), [row(outcome) for outcome in outcomes]))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
