"""The drill's verdict: it must not be able to say that all is well when it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.drill.kinds.verdict import LATE_SECONDS
from relay.drill.oracle import Fault, Oracle, Recovery
from relay.drill.report import DrillReport


def ledger(committed: list[int], arrived: list[int]) -> Oracle:
    ledger = Oracle()
    ledger.note_committed(committed, 10.0)
    for index, number in enumerate(arrived):
        ledger.note_arrival(number, 11.0 + index)
    return ledger


def report(ledger: Oracle, waiting: frozenset[int] = frozenset()) -> DrillReport:
    return DrillReport(7, 2, ledger.faults_by_kind(), ledger.tally(waiting=waiting), 0, ledger.longest_recovery())


def test_all_is_well_when_each_number_arrived() -> None:
    tally = ledger([1, 2], [2, 1]).tally()
    assert tally.is_good
    assert (tally.committed, tally.received, tally.duplicates) == (2, 2, 0)


def test_a_number_that_is_neither_here_nor_there_is_lost() -> None:
    outcome = report(ledger([1, 2], [1]))
    assert outcome.tally.lost == (2,)
    assert not outcome.is_good
    assert "numbers 2" in outcome.as_text()
    assert outcome.verdict() == "FAILED: 1 lost (--seed 7)."


def test_a_number_that_waits_in_the_table_is_late_and_not_lost() -> None:
    outcome = report(ledger([1, 2], [1]), waiting=frozenset({2}))
    assert (outcome.tally.lost, outcome.tally.late) == ((), (2,))
    assert outcome.verdict() == "FAILED: 1 late (--seed 7)."


def test_a_number_that_was_never_committed_is_a_phantom() -> None:
    outcome = report(ledger([1], [1, 5]))
    assert outcome.tally.phantom == (5,)
    assert outcome.verdict() == "FAILED: 1 phantom (--seed 7)."


def test_a_second_message_is_a_duplicate_and_no_harm() -> None:
    tally = ledger([1], [1, 1, 1]).tally()
    assert (tally.duplicates, tally.is_good) == (2, True)


def test_a_message_that_broker_repeats_is_no_duplicate_of_relay() -> None:
    book = ledger([1, 2], [1])
    book.note_arrival(1, 12.0, redelivered=True)
    book.note_arrival(2, 12.0, redelivered=True)
    tally = book.tally()
    assert (tally.received, tally.duplicates, tally.is_good) == (2, 0, True)


def test_a_commit_without_an_answer_is_neither_lost_nor_phantom() -> None:
    book = ledger([1], [1, 2])
    book.note_in_doubt([2, 3])
    tally = book.tally()
    assert tally.is_good
    assert tally.in_doubt == 2


def test_nothing_committed_is_no_success() -> None:
    outcome = report(ledger([], []))
    assert not outcome.is_good
    assert "nothing is proved" in outcome.verdict()


@given(st.sets(st.integers(0, 30)), st.lists(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_every_number_has_one_place(committed: set[int], arrived: list[int], waiting: set[int]) -> None:
    tally = ledger(sorted(committed), arrived).tally(waiting=waiting)
    assert set(tally.lost) | set(tally.late) == committed - set(arrived)
    assert not set(tally.lost) & waiting
    assert set(tally.phantom) == set(arrived) - committed
    assert tally.duplicates == len(arrived) - len(set(arrived))


def test_the_bound_grows_with_the_relays_that_were_hit() -> None:
    book = Oracle()
    for hit in (1, 0, 2):
        book.note_fault(Fault("cut", 1.0, hit))
    assert book.duplicates_bound(burst_count=50, workers=2) == 300
    assert book.faults_by_kind() == {"cut": 3}


def test_recovery_lasts_until_all_committed_by_then_has_arrived() -> None:
    book = Oracle()
    book.note_committed([1], 1.0)
    book.note_committed([2], 2.0)
    book.note_committed([3], 6.0)
    for number, time in ((1, 9.0), (2, 3.0), (3, 30.0)):
        book.note_arrival(number, time)
    book.note_fault(Fault("early", 0.5, 1))
    book.note_fault(Fault("cut", 2.5, 1))
    book.note_fault(Fault("killed", 5.0, 1))
    assert book.longest_recovery() == Recovery(6.5, "cut")


def test_without_anything_on_its_way_there_is_nothing_to_recover() -> None:
    book = ledger([1], [1])
    book.note_fault(Fault("cut", 20.0, 1))
    assert book.longest_recovery() is None
    assert report(book).as_object()["longest_recovery_seconds"] == 0.0


def test_many_lost_numbers_are_counted_and_some_are_named() -> None:
    text = report(ledger(list(range(1, 31)), [])).as_text()
    assert "numbers 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 20 more" in text


def test_fewer_signals_than_were_asked_for_are_pointed_out() -> None:
    assert "of 2 that were asked for" in report(ledger([1], [1])).as_text()
    assert "asked for" not in report(ledger([1, 2], [1, 2])).as_text()


def test_effects_that_are_missing_repeated_or_invented_are_named() -> None:
    oracle = Oracle()
    oracle.note_committed([1, 2, 3], 0.0)
    oracle.note_in_doubt([4])
    effects = oracle.effects([1, 2, 2, 4, 5], {"recorded": 2})
    assert (effects.count, effects.missing, effects.repeated, effects.phantom) == (5, (3,), (2,), (5,))
    assert not effects.is_good
    assert oracle.effects([1, 2, 3, 4], {}).is_good
    report = DrillReport(1, 3, {}, oracle.tally(), 0, None, effects)
    assert not report.is_good
    assert "1 effects missing, 1 effects repeated, 1 effects phantom" in report.verdict()
    assert "consumer killed: recorded" in report.as_text()
    assert report.as_object()["effects_repeated"] == 1


def test_a_first_arrival_behind_a_later_one_of_its_key_is_an_inversion() -> None:
    book = ledger([1, 2, 3, 4], [1, 3, 2, 1, 4])
    book.note_written({1: (7, 10), 2: (7, 11), 3: (7, 12), 4: (8, 1)}, {})
    outcome = report(book)
    assert (outcome.tally.inversions, outcome.tally.keyed) == ((2,), 4)
    assert not outcome.is_good
    assert outcome.verdict() == "FAILED: 1 inversions (--seed 7)."
    assert outcome.as_object()["inversions_numbers"] == [2]


def test_repeated_messages_and_other_keys_are_no_inversion() -> None:
    book = ledger([1, 2, 3], [1, 2, 1, 2, 3])
    book.note_written({1: (7, 10), 2: (7, 11), 3: (8, 1)}, {})
    assert report(book).is_good


def test_an_arrival_before_its_time_is_early_and_one_long_after_it_is_late() -> None:
    book = ledger([1, 2, 3, 4], [1, 2, 3])
    book.note_written({}, {1: (11.1, 11.2), 2: (11.9, 12.5), 3: (11.0, 13.0 - LATE_SECONDS - 0.1), 4: (0.0, 0.0)})
    outcome = report(book, waiting=frozenset({4}))
    assert (outcome.tally.early, outcome.tally.late, outcome.tally.scheduled) == ((1,), (3, 4), 4)
    assert outcome.verdict() == "FAILED: 2 late, 1 early (--seed 7)."
    assert outcome.as_object()["early_numbers"] == [1]
