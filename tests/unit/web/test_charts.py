"""The small chart: it fits its frame, whatever was sent."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from relay.web.template_helpers import HEIGHT, area, chart_text, figure, line


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=130))
def test_the_chart_fits_its_frame_and_reaches_both_edges(counts: list[int]) -> None:
    path = line({"counts": counts})
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", path) if point]
    assert (points[0][0], points[-1][0]) == (0, len(counts))
    assert all(0 < y < HEIGHT for _, y in points)
    assert area({"counts": counts}).startswith(path)


def test_highest_bucket_is_on_top_and_nothing_is_at_bottom() -> None:
    assert line({"counts": [0, 10, 5]}) == "M0 31.5L0.5 31.5L1.5 2L2.5 16.8L3 16.8"


def test_the_chart_is_told_in_words() -> None:
    quiet = {"per_second": 0, "chart": {"counts": [0, 0], "bucket_seconds": 5.0}}
    assert chart_text(quiet) == "Nothing was sent in the last ten minutes."
    busy = {"per_second": 1.5, "chart": {"counts": [0, 6000], "bucket_seconds": 5.0}}
    assert chart_text(busy) == "Sent a second: now 1.5, at most 1,200 in the last ten minutes."


def test_rates_have_no_more_digits_than_they_are_worth() -> None:
    assert [figure(number) for number in (0, 0.26, 3.0, 12.4, 12345.6)] == ["0", "0.3", "3", "12", "12,346"]
