"""Where things are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "performance.json"
REPORT = ROOT / "docs" / "performance.md"
