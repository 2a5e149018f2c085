"""``make bench``: that it measures, keeps what it measured, and writes its report."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.__main__ import main
from tests.benchmarks.figures import Figures
from tests.benchmarks.registry import SECTIONS
from tests.benchmarks.report.targets import targets


def test_a_section_that_is_measured_alone_keeps_the_figures_of_the_others_and_renews_the_report(tmp_path: Path) -> None:
    figures, report = tmp_path / "figures.json", tmp_path / "performance.md"
    others = {
        "single": {"is_quick": False, "day": "2026-01-01", "found": {"1 process x 1 workers": {"rate": [1, 3, 2]}}}
    }
    figures.write_text(json.dumps({"machine": {}, "sections": others}))
    assert main(["--tiny", "--only", "counters", "--figures", str(figures), "--report", str(report)]) == 0
    kept = json.loads(figures.read_text())["sections"]
    assert kept["single"] == others["single"]
    assert kept["counters"]["found"]["burst of 1"]["burst_acks"] == [1]
    text = report.read_text()
    assert "| 1 process x 1 workers | 2 (1 to 3) |" in text
    assert "| bursts of one, signals/s, several workers | >= 1,840 | 2 (1 to 3) | missed by 100% |" in text
    assert "| burst of 1 |" in text
    assert (tmp_path / "performance" / "single.svg").read_text().startswith("<svg")


def test_the_report_says_what_bounds_a_rate_that_is_missed() -> None:
    variant = "quorum, without consumer"
    drained = {"rate": [20_000], "ratio": [0.4], "shared_ratio": [0.8]}
    found = {
        variant: {**drained, "relay_us": [15], "postgres_us": [5], "broker_us": [30]},
        f"ceiling: {variant}": {"rate": [50_000]},
        f"beside a load: {variant}": {"rate": [25_000], "load_percent": [40]},
    }
    text = targets(Figures({"processor": "Z80, 2 cores"}, {"drain": {"found": found}}))
    assert "| drain rate over the broker's ceiling, quorum queue | >= 0.75 | 0.40 | missed by 47% |" in text
    [bound] = [line for line in text.splitlines() if line.startswith("- **")]
    assert "50.0 in all: 2 cores that never wait would send 40,000 a second, 0.80 of a ceiling" in bound
    assert "(40% of a core), the broker took 25,000 of the same encoded frames" in bound
    assert bound.endswith("the drain reached 0.80 of that.")


def test_every_section_has_its_place_in_the_report() -> None:
    text = (Path(__file__).parents[2] / "benchmarks" / "report" / "texts.py").read_text()
    assert [name for name in SECTIONS if f'_of("{name}"' not in text] == []
