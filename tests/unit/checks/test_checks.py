"""What check makes of facts that cannot be made real here: old servers, clocks, silence."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pika import exceptions

from relay.checks.broker import connecting_finding
from relay.checks.configuration import host_names, rejected, uri_drivers
from relay.checks.finding import AREAS, KINDS, Finding, finding_of_text, found
from relay.checks.pooler import are_shared
from relay.checks.run import Task, run_in_parallel, told_once
from relay.checks.session import clock_findings, server_findings, timeout_findings
from relay.checks.vacuum import HELD_TRANSACTIONS, is_held
from relay.checks.versions import check_library, check_postgresql, check_python, check_rabbitmq, numbers, postgresql_end
from relay.commands.check import as_line
from relay.config.resolve import resolve
from relay.text import say
from signalbus_core.lowlevel import BurstLimits, HolderKind, HorizonHolder

TESTS = Path(__file__).parents[2]


def codes(findings: Iterable[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_every_kind_belongs_to_an_area_and_is_named_in_a_test() -> None:
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    assert {kind.area for kind in KINDS.values()} - {""} == set(AREAS)
    assert [code for code in KINDS if f'"{code}"' not in text and f"[{code}]" not in text] == []
    assert all(re.fullmatch("[a-z-]+", code) for code in KINDS)


def test_first_sentence_is_problem_and_rest_is_remedy() -> None:
    finding = finding_of_text("table-unfit", "Order", "The table is a view. Name a table. Or drop it.")
    assert (finding.problem, finding.remedy) == ("The table is a view", "Name a table. Or drop it.")


@pytest.mark.parametrize(
    ("today", "expected"), [(date(2026, 10, 31), []), (date(2026, 11, 1), ["python-out-of-support"])]
)
def test_a_python_is_out_of_support_from_the_day_after_its_last(today: date, expected: list[str]) -> None:
    assert codes(check_python((3, 10), today)) == expected


def test_a_version_that_is_not_known_yet_is_no_trouble() -> None:
    today = date(2040, 1, 1)
    assert codes(check_python((3, 99), today)) == []
    assert codes(check_python((4, 0), today)) == []
    assert codes(check_postgresql(990001, today)) == []
    assert codes(check_rabbitmq("9.0.0-beta.1")) == []
    assert codes(check_rabbitmq("")) == []


@pytest.mark.parametrize(
    ("major", "last"),
    [
        # As https://www.postgresql.org/support/versioning/ names them.
        (14, date(2026, 11, 12)),
        (15, date(2027, 11, 11)),
        (16, date(2028, 11, 9)),
        (17, date(2029, 11, 8)),
        (18, date(2030, 11, 14)),
    ],
)
def test_the_last_day_of_a_postgresql_is_found_by_the_rule(major: int, last: date) -> None:
    assert postgresql_end(major) == last


@pytest.mark.parametrize(
    ("number", "today", "expected"),
    [
        (130023, date(2020, 1, 1), ["postgresql-too-old"]),
        (150018, date(2027, 11, 11), []),
        (150018, date(2027, 11, 12), ["postgresql-out-of-support"]),
    ],
)
def test_an_old_postgresql_is_told(number: int, today: date, expected: list[str]) -> None:
    assert codes(check_postgresql(number, today)) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("3.10.8", ["rabbitmq-out-of-support"]), ("3.13.0", []), ("4.2.5", []), ("unknown", [])],
)
def test_an_old_rabbitmq_is_told(version: str, expected: list[str]) -> None:
    assert codes(check_rabbitmq(version)) == expected


@pytest.mark.parametrize(
    ("name", "version", "is_supported"),
    [
        ("SQLAlchemy", "2.0.30", True),
        ("SQLAlchemy", "2.1.9", True),
        ("SQLAlchemy", "2.1.0b1", True),
        ("SQLAlchemy", "1.4.54", False),
        ("SQLAlchemy", "2.2.0", False),
        ("pika", "1.4.4", True),
        ("pika", "1.3.2", False),
        ("pika", "1.5.0", False),
    ],
)
def test_a_library_that_was_not_tested_is_told(name: str, version: str, is_supported: bool) -> None:
    assert codes(check_library(name, version)) == ([] if is_supported else ["library-unsupported"])


def test_versions_are_compared_by_their_numbers() -> None:
    assert numbers("2.10.3") == (2, 10, 3)
    assert numbers("2.1.0b1") == (2, 1)


@pytest.mark.parametrize(("skew_seconds", "expected"), [(4.9, []), (5.1, ["clock-skew"]), (-3600.0, ["clock-skew"])])
def test_clocks_that_differ_are_told(skew_seconds: float, expected: list[str]) -> None:
    assert codes(clock_findings(skew_seconds, "database")) == expected


def facts(**changed: Any) -> dict[str, Any]:
    usual = {"standby": False, "read_only": "off", "synchronous_commit": "on", "fsync": "on", "connections": 100}
    return usual | changed


def test_a_server_as_it_should_be_is_fine() -> None:
    assert codes(server_findings(facts(), "database", 100)) == []
    assert codes(server_findings(facts(), "database", 101)) == ["connections-too-few"]


def test_of_a_standby_it_is_not_told_too_that_it_is_read_only() -> None:
    assert codes(server_findings(facts(standby=True, read_only="on"), "database", 5)) == ["database-standby"]


@pytest.mark.parametrize(
    ("name", "seconds", "expected"),
    [
        ("statement_timeout", 30.0, []),
        ("statement_timeout", 2.0, ["timeout-overridden"]),
        ("lock_timeout", 0.5, ["timeout-overridden"]),
        ("idle_in_transaction_session_timeout", 60.0, ["timeout-overridden"]),
        ("transaction_timeout", 60.0, ["timeout-too-short"]),
        ("transaction_timeout", 150.0, []),
        ("idle_session_timeout", 60.0, ["timeout-too-short"]),
    ],
)
def test_time_limits_that_bursts_cannot_change_must_be_longer_than_theirs(
    name: str, seconds: float, expected: list[str]
) -> None:
    assert codes(timeout_findings({name: seconds}, BurstLimits(30.0, 5.0, 120.0), "database")) == expected


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg2://localhost/shop"}, []),
        ({"SQLALCHEMY_DATABASE_URI": "postgresql://localhost/shop"}, ["SQLALCHEMY_DATABASE_URI"]),
        ({"SQLALCHEMY_DATABASE_URI": "postgres://localhost/shop"}, ["SQLALCHEMY_DATABASE_URI"]),
        ({"SQLALCHEMY_BINDS": {"old": "postgres://localhost/old"}}, ["SQLALCHEMY_BINDS['old']"]),
        ({"SQLALCHEMY_BINDS": {"old": {"url": "postgresql://localhost/old"}}}, ["SQLALCHEMY_BINDS['old']"]),
    ],
)
def test_a_url_without_a_driver_is_found_wherever_it_is(config: dict[str, Any], places: list[str]) -> None:
    found_there = list(uri_drivers(config))
    assert [finding.subject for finding in found_there] == places
    assert all(finding.code == "uri-driver" for finding in found_there)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [({1}, {2}, False), ({1}, {1}, True), ({1, 2}, {3}, True), ({1}, {2, 3}, True), ({1, 2}, {1, 2}, True)],
)
def test_only_connections_with_a_process_each_are_direct(
    first: set[int | None], second: set[int | None], expected: bool
) -> None:
    assert are_shared(first, second) is expected


def holder(age_seconds: float | None, transactions: int) -> HorizonHolder:
    return HorizonHolder(HolderKind.SLOT, None, "standby", None, age_seconds, transactions, "740")


def test_what_does_not_know_age_is_judged_by_transactions_since() -> None:
    assert is_held(holder(300.0, 0), 300.0)
    assert not is_held(holder(299.0, 10**9), 300.0)
    assert is_held(holder(None, HELD_TRANSACTIONS), 300.0)
    assert not is_held(holder(None, HELD_TRANSACTIONS - 1), 300.0)


def test_what_is_silent_or_fails_hides_nothing_of_the_others() -> None:
    end = threading.Event()

    def is_silent() -> Iterator[Finding]:
        end.wait(60)
        yield from ()

    def fails() -> Iterator[Finding]:
        raise ValueError("no such thing")

    def tells() -> Iterator[Finding]:
        yield found("fsync-off", "database", "it is off", "Set it.")

    tasks = [Task(("session", "tables"), is_silent), Task(("broker",), fails), Task(("session",), tells)]
    try:
        findings = run_in_parallel(tasks, 1.5)
    finally:
        end.set()
    assert [(finding.area, finding.code) for finding in findings] == [
        ("session", "area-timeout"),
        ("tables", "area-timeout"),
        ("broker", "area-failed"),
        ("session", "fsync-off"),
    ]


def test_what_others_have_named_tells_a_terminal_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    finding = found("model-paused", "Order", "it is paused (\x1b[2J\nnever)", "Resume it.")
    say(as_line(finding), mark="!")
    assert capsys.readouterr().out == "! signals   Order: it is paused ( [2J never). Resume it. [model-paused]\n"


@pytest.mark.parametrize(
    ("http", "names", "codes"),
    [
        ("127.0.0.1:9109", (), []),
        ("off", (), []),
        ("0.0.0.0:9109", (), ["http-any-name"]),
        ("[::]:9109", (), ["http-any-name"]),
        ("0.0.0.0:9109", ("relay.shop",), []),
    ],
)
def test_relay_that_answers_to_any_name_is_found(http: str, names: tuple[str, ...], codes: list[str]) -> None:
    config = resolve({"app": "shop", "http": http, "http_hosts": names}, {})
    assert [finding.code for finding in host_names(config)] == codes


def test_server_that_is_away_is_told_once_with_what_was_not_checked() -> None:
    away = "no connection to it can be had: refused"
    findings = [
        found("area-unreachable", "database", away, "Check that it runs.", area="tables"),
        found("database-unreachable", "database", away, "Check that it runs."),
        found("area-unreachable", "database", away, "Check that it runs.", area="bloat"),
        found("area-fine", "config", "nothing is wrong", area="config"),
        found("area-fine", "models", "nothing is wrong", area="models"),
        *[found("model-paused", "Order", "it is paused", "Resume it.")] * 2,
    ]
    told = told_once(findings)
    assert [one.code for one in told] == ["database-unreachable", "area-fine", "area-fine", "model-paused"]
    assert told[0].problem == f"{away}; not checked therefore: tables, bloat"


def test_limit_of_connections_is_no_wrong_address() -> None:
    error = exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost connection limit (1) is reached")
    finding = connecting_finding(error, "broker")
    assert (finding.code, "limit (1) is reached" in finding.problem) == ("broker-limit", True)


def test_parameters_that_libpq_rejects_are_those_of_the_url() -> None:
    assert rejected("database", "invalid port.").code == "database-url"
