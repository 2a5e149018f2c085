"""The demo's verdict: it must not be able to say that all is well when it is not."""

from __future__ import annotations

from deploy.demo.ledger import Ledger, percentile


def ledger(committed: list[int], arrived: list[int]) -> Ledger:
    ledger = Ledger()
    for order_id in committed:
        ledger.order_committed(order_id, 10.0)
    for number, order_id in enumerate(arrived):
        ledger.message_arrived(order_id, 10.0 + number)
    return ledger


def test_all_is_well_when_each_order_arrived() -> None:
    report = ledger([1, 2], [2, 1]).report({1, 2})
    assert report.is_good
    assert (report.lost, report.phantom, report.duplicates) == (0, 0, 0)


def test_a_missing_order_is_lost() -> None:
    report = ledger([1, 2], [1]).report({1, 2})
    assert (report.lost, report.is_good) == (1, False)


def test_message_about_order_that_was_never_committed_is_phantom() -> None:
    report = ledger([1], [1, 5]).report({1})
    assert (report.phantom, report.is_good) == (1, False)


def test_a_second_message_is_a_duplicate_and_no_harm() -> None:
    report = ledger([1], [1, 1, 1]).report({1})
    assert (report.duplicates, report.is_good) == (2, True)


def test_the_database_decides_what_was_committed() -> None:
    assert ledger([], [1]).report({1, 2}).lost == 1


def test_nothing_committed_is_no_success() -> None:
    assert not ledger([], []).report(set()).is_good


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([float(number) for number in range(100)], 0.99) == 99.0
