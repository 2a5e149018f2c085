"""The checks of the faults find what they look for."""

from __future__ import annotations

import json

from .catalogue import FAULTS
from .fault import Fault
from .ledger import LATE_SECONDS, Expected, Figures, Ledger
from .loglines import log_problems
from .relays import MOST_DATABASE_CONNECTIONS, Level
from .soak import order, row_of, table, with_table
from .trial import Report


def line(level: str, message: str, action: str = "broker_down", **more: object) -> str:
    return json.dumps({"level": level, "message": message, "action": action, **more})


def problems(*lines: str, errors: tuple[str, ...] = (), bursts: int = 1) -> list[str]:
    return log_problems("\n".join(lines), errors, bursts, "secret")


def test_a_committed_signal_that_did_not_arrive_is_lost() -> None:
    ledger = Ledger()
    ledger.arrived([1, 2])
    figures = ledger.figures({1, 2, 3}, set())
    assert (figures.lost, figures.phantom, figures.duplicates) == (1, 0, 0)
    assert figures.problems(0, 1) == ["1 of 3 signals are lost: (3,)"]


def test_signal_withdrawn_is_not_lost_and_may_have_arrived() -> None:
    ledger = Ledger()
    ledger.withdrawn = {2, 3}
    ledger.arrived([1, 2])
    assert ledger.figures({1, 2, 3}, set()).problems(0, 1) == []


def test_message_about_signal_never_committed_is_phantom() -> None:
    ledger = Ledger()
    ledger.arrived([1, 9, 9])
    assert ledger.figures({1}, set()).phantom == 2


def test_a_message_about_a_signal_that_a_failover_has_lost_is_no_phantom() -> None:
    ledger = Ledger()
    ledger.forgotten = {2}
    ledger.arrived([1, 2])
    assert ledger.figures({1}, set()).problems(0, 1) == []


def test_an_id_of_two_signals_is_found_and_also_one_of_an_earlier_fault() -> None:
    ledger = Ledger()
    assert [ledger.identified(1, "a"), ledger.identified(1, "a"), ledger.identified(2, "b")] == [1, 1, 2]
    assert ledger.figures({1, 2}, set()).shared_ids == 0
    later = Ledger(ledger.ids)
    later.identified(3, "a")
    later.arrived([3])
    assert later.figures({3}, {1, 2}).problems(0, 1) == ["1 message ids are of more than one signal"]


def test_a_signal_behind_a_later_one_of_its_key_is_found() -> None:
    ledger = Ledger()
    ledger.arrived([ledger.identified(number, str(number)) for number in (1, 3, 2, 1, 4)])
    places = {1: (7, 1), 2: (7, 2), 3: (7, 3), 4: (8, 1)}
    figures = ledger.figures({1, 2, 3, 4}, set(), Expected(places))
    assert figures.problems(1, 2) == ["1 signals came after later ones of their keys"]


def test_what_is_sent_before_its_time_or_long_after_it_is_found() -> None:
    ledger = Ledger()
    ledger.arrived([ledger.identified(number, str(number), 100.0) for number in (1, 2, 3)])
    ledger.arrived([ledger.identified(3, "3", 1.0)])
    due = {1: 100.1, 2: 99.9 - LATE_SECONDS, 3: 99.0}
    assert ledger.figures(set(due), set(), Expected(due=due, calm_since=0.0)).problems(1, 2) == [
        "1 signals were sent before their time",
        "1 signals were sent more than 5 s after their time",
    ]
    assert ledger.figures(set(due), set(), Expected(due=due, calm_since=99.0)).late == 0


def test_every_further_message_is_duplicate_of_earlier_fault() -> None:
    ledger = Ledger()
    ledger.arrived([5, 5, 5, 1])
    figures = ledger.figures({5}, {1})
    assert (figures.duplicates, figures.phantom) == (3, 0)
    assert figures.problems(2, 3) == ["3 duplicates, where 2 are the bound"]
    assert figures.problems(3, 3) == []


def test_a_message_that_comes_more_often_than_its_bound_is_found() -> None:
    ledger = Ledger()
    ledger.arrived([1, 1, 1, 2, 2])
    figures = ledger.figures({1, 2}, set())
    assert figures.most_often == 3
    assert figures.problems(3, 3) == []
    assert figures.problems(3, 2) == ["one message came 3 times, where 2 is the bound"]


def test_a_fault_without_signals_proves_nothing() -> None:
    assert Ledger().figures(set(), set()).problems(0, 1)


def test_one_warning_for_each_change_of_state_is_right() -> None:
    down, up = line("WARNING", "Broker x: lost"), line("INFO", "Broker x: works again after 1 s.", "broker_up")
    assert problems(down, up, down, up) == []
    assert problems(down, down) == ["told twice: Broker x: lost"]
    assert problems(down, line("WARNING", "Database: lost", "database_down")) == []


def test_a_state_that_comes_and_goes_with_each_try_is_found() -> None:
    down, up = line("WARNING", "Broker x: lost"), line("INFO", "Broker x: works again after 0 s.", "broker_up")
    assert problems(*[down, up] * 5) == ["5 warnings about Broker x"]


def test_a_reminder_after_a_minute_is_right() -> None:
    assert problems(line("WARNING", "Broker x: lost"), line("WARNING", "Broker x: lost", since_seconds=60.1)) == []


def test_errors_tracebacks_passwords_and_foreign_lines_are_found() -> None:
    assert problems(line("ERROR", "no", "worker_error"))
    assert problems(line("ERROR", "no", "drain_timed_out"), errors=("drain_timed_out",)) == []
    assert problems(line("INFO", "no", exception="Traceback ..."))
    assert problems(line("INFO", "the secret"))
    assert problems("Exception in thread worker-1")


def test_more_warnings_of_single_bursts_than_bursts_are_found() -> None:
    one = line("WARNING", "Deleting 3 sent signals failed", "delete_retried")
    assert problems(one, one, bursts=2) == []
    assert problems(one, one, bursts=1) == ["2 times delete_retried"]


def test_more_threads_descriptors_or_connections_are_found() -> None:
    before = Level(8, 30, 2)
    assert Level(8, 30, MOST_DATABASE_CONNECTIONS).problems(before) == []
    assert len(Level(9, 31, MOST_DATABASE_CONNECTIONS + 1).problems(before)) == 3


def test_seed_replays_its_order_and_every_fault_comes_first_once() -> None:
    first, again, other = order(FAULTS, 7), order(FAULTS, 7), order(FAULTS, 8)
    names = [next(first).name for _ in range(200)]
    assert names == [next(again).name for _ in range(200)]
    assert names != [next(other).name for _ in range(200)]
    assert sorted(names[: len(FAULTS)]) == sorted(fault.name for fault in FAULTS)


def test_names_of_faults_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_table_adds_up_and_takes_its_place_in_a_page() -> None:
    fault: Fault = FAULTS[0]
    figures = Figures(
        committed=100, rolled_back=0, withdrawn=0, received=103, lost=0, phantom=0, duplicates=3, most_often=2
    )
    lines = table([row_of(Report(fault, figures, 0.5)), row_of(Report(fault, figures, 1.5))])
    assert lines[-1] == "| all | 2 | 200 | 0 | 0 | 0 | 0 | 0 | 6 | 2 | 1.0 s | 1.5 s |"
    page = with_table("before\n<!-- faults -->\nold\n<!-- /faults -->\nafter", lines)
    assert "old" not in page
    assert page.startswith("before\n<!-- faults -->\n| fault |")
    assert page.endswith("<!-- /faults -->\nafter")
