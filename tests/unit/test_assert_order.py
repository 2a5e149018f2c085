"""What ``assert_order`` takes for an inversion."""

from __future__ import annotations

import pytest

from signalbus_core.testing import assert_order


def check(*messages: tuple[str | None, int]) -> None:
    assert_order(messages, key=lambda one: one[0], position=lambda one: one[1])


@pytest.mark.parametrize(
    "messages",
    [
        [("a", 1), ("b", 9), ("a", 2), ("b", 10)],
        [("a", 1), ("a", 2), ("a", 1), ("a", 2), ("a", 3)],
        [("a", 1), (None, 2), (None, 1)],
        [],
    ],
)
def test_first_arrivals_in_order_pass(messages: list[tuple[str | None, int]]) -> None:
    check(*messages)


def test_an_inversion_is_told_with_key_and_positions() -> None:
    with pytest.raises(AssertionError, match=r"Message 2 has position 1 of the key 'a', .* after 2"):
        check(("a", 2), ("b", 1), ("a", 1))
