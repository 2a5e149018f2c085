"""What an operator can do over HTTP, and what strangers cannot, on a real PostgreSQL."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa

from relay.web.failed_cache import LAST_PAGE, MOST_SHOWN
from signalbus_core import Outcome, OutcomeKind
from tests.integration.worker.test_parked_signals import Outbox, failed
from tests.support.operated_site import TOKEN, Operated
from tests.support.servers import Postgres
from tests.support.waiting import eventually

DISCARD = b'{"model": "Order", "key": "1"}'

ACTIONS = {
    "/api/parked/retry": b'{"model": "Order", "key": "1"}',
    "/api/parked/discard": DISCARD,
    "/api/pause": b'{"model": "Order"}',
    "/api/resume": b'{"model": "Order"}',
}

FORMS = {
    "/retry": "model=Order&key=1",
    "/discard": "model=Order&key=1",
    "/pause": "model=Order&reason=moving",
    "/resume": "model=Order",
}


@pytest.fixture(scope="module")
def one_outbox(postgres: Postgres) -> Iterator[Outbox]:
    outbox = Outbox(postgres.create_database())
    yield outbox
    outbox.engine.dispose()


@pytest.fixture
def outbox(one_outbox: Outbox) -> Iterator[Outbox]:
    """An outbox that is empty at first."""
    yield one_outbox
    with one_outbox.app.app_context():
        one_outbox.db.create_all()
    with one_outbox.engine.begin() as connection:
        connection.exec_driver_sql('TRUNCATE "order", signalbus_parked, signalbus_paused')


@pytest.fixture
def operated(outbox: Outbox, tmp_path: Path) -> Operated:
    return Operated(outbox, tmp_path)


def paused(operated: Operated) -> list[str]:
    with operated.outbox.engine.connect() as connection:
        return list(connection.scalars(sa.text("SELECT model FROM signalbus_paused")))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(record).get("action")) for record in caplog.records]


def test_parked_signals_are_listed_in_pages_without_payload(operated: Operated) -> None:
    operated.park(1, 2, 3)
    reply = operated.ask("/api/parked", query="model=Order&limit=2")
    assert (reply.status, reply.json["more"]) == (200, True)
    assert [(one["key"], one["state"]) for one in reply.json["signals"]] == [("1", "parked"), ("2", "parked")]
    assert reply.json["signals"][0]["error_text"] == "ValueError: <b>bad</b>"
    assert "note" not in reply.text
    rest = operated.ask("/api/parked", query="offset=2&limit=2").json
    assert ([one["key"] for one in rest["signals"]], rest["more"]) == (["3"], False)


def test_the_page_shows_parked_signals_in_pages(operated: Operated) -> None:
    operated.park(*range(1, 2 * MOST_SHOWN + 2))

    [group] = operated.ask("/api/parked/groups").json["groups"]
    of = f"model=Order&group={group['group']}"

    def shown(query: str = "") -> tuple[list[str], list[str]]:
        text = operated.ask("/", query=f"{of}{query}").text.replace("&amp;", "&").replace(of, "")
        return re.findall(r'class="key">(\d+)<', text), re.findall(r'rel="(?:prev|next)" href="([^"]+)"', text)

    first, second, third = (shown(query) for query in ("", "&page=2", "&page=3"))
    keys = [*first[0], *second[0], *third[0]]
    assert sorted(map(int, keys)) == list(range(1, 2 * MOST_SHOWN + 2))
    assert [len(one[0]) for one in (first, second, third)] == [MOST_SHOWN, MOST_SHOWN, 1]
    assert [one[1] for one in (first, second, third)] == [["./?&page=2"], ["./?", "./?&page=3"], ["./?&page=2"]]
    assert "51 to 100" in operated.ask("/", query=f"{of}&page=2").text
    assert shown(f"&page={LAST_PAGE}") == ([], ["./?"])


TYPED = Outcome(OutcomeKind.INVALID, "TypeError: order 4711 has no body", cause="invalid")
ALSO_TYPED = Outcome(OutcomeKind.INVALID, "TypeError: order *** *** has no body", cause="invalid")
UNROUTED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned", destination="exchange 'orders'")


def fail_for_reasons(operated: Operated) -> dict[str, str]:
    """Three signals of one reason, and one of another; the group of each reason."""
    operated.outbox.write(1, 2, 3, 4)
    store = operated.outbox.retry_store(park_after=1, wait=3600)
    store.put([failed(1, TYPED), failed(2, ALSO_TYPED), failed(3, TYPED), failed(4, UNROUTED)])
    operated.status.failed_counted("Order", 1, 3)
    groups = operated.ask("/api/parked/groups").json["groups"]
    return {one["error_class"]: one["group"] for one in groups}


def test_equal_failures_are_one_row_with_what_to_do(operated: Operated) -> None:
    assert list(fail_for_reasons(operated)) == ["invalid", "returned"]
    first, second = operated.ask("/api/parked/groups").json["groups"]
    assert (first["state"], first["number"], first["key"]) == ("parked", 3, "1")
    assert (second["state"], second["number"], second["destination"]) == ("waiting", 1, "exchange 'orders'")
    page = operated.ask("/").text
    for group in (first, second):
        assert group["remedy"] in html.unescape(page)
        assert f"runbook?section={group['runbook']}" in page
        assert "**Do**" in operated.ask("/runbook", query=f"section={group['runbook']}").text
    assert page.count("Retry all") == page.count("Discard all") == 1


def test_numbers_of_models_and_of_groups_are_of_one_moment(operated: Operated) -> None:
    fail_for_reasons(operated)
    operated.status.failed_counted("Order", 7, 9)
    page = operated.ask("/").text
    assert re.findall(r'data-label="(?:Waiting|Parked)">([\d?]+)<', page) == ["1", "3"]
    assert "Order: 3 signals are parked, waiting for a person." in page


def test_a_group_is_tried_again_and_no_other(operated: Operated) -> None:
    groups = fail_for_reasons(operated)
    reply = operated.act("/api/parked/retry", json.dumps({"model": "Order", "group": groups["invalid"]}).encode())
    assert (reply.status, reply.json) == (200, {"retried": 3})
    assert [one.key for one in operated.outbox.noted() if one.is_parked] == []
    assert operated.act("/api/parked/retry", b'{"model": "Order", "group": "1f"}').status == 404


def test_a_group_is_discarded_asked_about_recorded_and_bounded(
    operated: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    of = f"model=Order&group={fail_for_reasons(operated)['invalid']}"
    asked = operated.ask("/discard-group", query=f"{of}&number=2").text
    assert "Discard these signals?" in asked
    assert operated.outbox.left() == 4
    assert operated.submit("/discard-group", f"{of}&number=2&token=not-the-token-at-all").status == 401
    done = operated.submit("/discard-group", f"{of}&number=2&token={TOKEN}")
    assert "Discarded: 2." in done.text
    assert "1 more of them are left" in done.text
    assert "<h1>Discarded</h1>" in done.text
    records = [json.loads(line) for line in operated.record.read_text().splitlines()]
    assert [(one["key"], one["row"]["note"]) for one in records] == [("1", "n"), ("2", "n")]
    assert operated.outbox.left() == 2
    assert "signals_discarded" in logged(caplog)
    body = {"model": "Order", "group": of.rpartition("=")[2]}
    assert operated.act("/api/parked/discard", json.dumps(body).encode()).json == {"discarded": 1, "left": 0}
    for wrong in ({**body, "key": "1"}, {**body, "limit": 201}, {**body, "limit": "2"}, {"model": "Order", "limit": 2}):
        assert operated.act("/api/parked/discard", json.dumps(wrong).encode()).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=-1",
        "page=x",
        "page=",
        "page=1&page=2",
        "page=1002",
        "side=1",
    ],
)
def test_odd_pages_are_refused_with_a_sentence(operated: Operated, query: str) -> None:
    reply = operated.ask("/", query=query)
    assert (reply.status, reply.text[-2:]) == (400, ".\n")


def test_retry_makes_a_parked_signal_due(operated: Operated, caplog: pytest.LogCaptureFixture) -> None:
    operated.park(1, 2)
    assert operated.outbox.work() == (False, False)
    assert operated.act("/api/parked/retry", ACTIONS["/api/parked/retry"]).json == {"retried": 1}
    assert operated.outbox.work() == (False, True)
    assert {one.key: one.is_parked for one in operated.outbox.noted()} == {"1": False, "2": True}
    [record] = [record for record in caplog.records if vars(record).get("action") == "signals_retried"]
    assert (vars(record)["key"], vars(record)["address"]) == ("1", "192.0.2.7")
    assert operated.act("/api/parked/retry", b'{"all": true}').json == {"retried": 2}


def test_a_discarded_signal_is_gone_and_its_row_is_in_the_record_but_in_no_answer_or_log(
    operated: Operated, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    operated.park(1)
    reply = operated.act("/api/parked/discard", DISCARD)
    assert (reply.status, reply.json) == (200, {"discarded": 1})
    assert operated.outbox.left() == 0
    assert operated.outbox.noted() == []
    assert json.loads(operated.record.read_text())["row"] == {"id": 1, "note": "n"}
    assert "signal_discarded" in logged(caplog)
    assert "note" not in reply.text
    assert operated.act("/api/parked/discard", DISCARD).status == 404


def test_what_cannot_be_recorded_is_not_discarded(outbox: Outbox, tmp_path: Path) -> None:
    operated = Operated(outbox, tmp_path, discard_record=str(tmp_path / "none" / "file"))
    operated.park(1)
    reply = operated.act("/api/parked/discard", DISCARD)
    assert reply.status == 503
    assert "nothing was discarded" in reply.json["error"]
    assert (outbox.left(), len(outbox.noted())) == (1, 1)


def test_without_a_record_file_nothing_is_discarded_over_http(outbox: Outbox, tmp_path: Path) -> None:
    operated = Operated(outbox, tmp_path, discard_record=None)
    operated.park(1)
    assert operated.act("/api/parked/discard", DISCARD).status == 403
    assert operated.submit("/discard", f"{FORMS['/discard']}&token={TOKEN}").status == 403
    assert "Discard<" not in operated.ask("/").text
    assert "--discard-record" in operated.ask("/discard", query="model=Order&key=1").text
    assert outbox.left() == 1


def test_a_model_is_paused_with_its_reason_and_resumed(operated: Operated, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"model": "Order", "reason": "moving the queue"}'
    assert operated.act("/api/pause", body).json == {"paused": True, "changed": True}
    assert operated.act("/api/pause", body).json == {"paused": True, "changed": False}
    assert paused(operated) == ["Order"]
    assert operated.act("/api/resume", b'{"model": "Order"}').json == {"paused": False, "changed": True}
    assert operated.act("/api/resume", b'{"model": "Order"}').json == {"paused": False, "changed": False}
    assert paused(operated) == []
    assert logged(caplog).count("operator_acted") == 2


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "\xe9", "Basic"])
def test_a_wrong_token_is_refused_and_nothing_is_done(operated: Operated, path: str, token: str) -> None:
    operated.park(1)
    before = operated.outbox.noted()
    reply = operated.act(path, ACTIONS[path], token)
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert reply.json == {"error": "The operator token is missing or wrong."}
    assert (operated.outbox.left(), operated.outbox.noted(), paused(operated)) == (1, before, [])


def test_a_token_in_query_or_in_body_of_api_counts_for_nothing(operated: Operated) -> None:
    operated.park(1)
    body = json.dumps({"model": "Order", "key": "1", "token": TOKEN}).encode()
    assert operated.ask("/api/parked/discard", "POST", body=body, content_type="application/json").status == 401
    assert operated.act("/api/parked/discard", DISCARD, token="", query=urlencode({"token": TOKEN})).status == 401
    assert operated.submit("/discard", FORMS["/discard"], query=urlencode({"token": TOKEN})).status == 401
    assert operated.outbox.left() == 1


@pytest.mark.parametrize("path", FORMS)
def test_a_form_asks_first_and_acts_only_with_the_token(operated: Operated, path: str) -> None:
    operated.park(1)
    query = FORMS[path].replace("&reason=moving", "")
    asked = operated.ask(path, query=query)
    assert asked.status == 200
    assert 'type="password"' in asked.text
    for token in ("", "wrong"):
        refused = operated.submit(path, f"{FORMS[path]}&token={token}")
        assert refused.status == 401
        assert "missing or wrong" in refused.text
    assert (operated.outbox.left(), operated.outbox.work(), paused(operated)) == (1, (False, False), [])
    done = operated.submit(path, f"{FORMS[path]}&token={TOKEN}")
    assert done.status == 200
    assert 'role="status"' in done.text
    assert TOKEN not in done.text


@pytest.mark.parametrize("path", [*ACTIONS, *FORMS])
def test_without_a_token_of_the_relay_nobody_can_act(outbox: Outbox, tmp_path: Path, path: str) -> None:
    operated = Operated(outbox, tmp_path, operator_token=None)
    operated.park(1)
    reply = (
        operated.act(path, ACTIONS[path]) if path in ACTIONS else operated.submit(path, f"{FORMS[path]}&token={TOKEN}")
    )
    assert reply.status == 403
    assert "SIGNALBUS_RELAY_OPERATOR_TOKEN" in reply.text
    assert (outbox.left(), outbox.work(), paused(operated)) == (1, (False, False), [])
    assert "<button" not in operated.ask("/retry", query="model=Order&key=1").text


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9110"},
        {"origin": "http://127.0.0.1:9109.evil.example"},
        {"origin": ""},
        {"origin": None, "sec_fetch_site": "cross-site"},
        {"origin": None, "sec_fetch_site": "same-site"},
    ],
    ids=str,
)
def test_a_form_of_another_site_is_refused_even_with_the_token(operated: Operated, headers: dict[str, Any]) -> None:
    operated.park(1)
    given = {"origin": "http://127.0.0.1:9109", **headers}
    reply = operated.ask(
        "/discard",
        "POST",
        body=f"{FORMS['/discard']}&token={TOKEN}".encode(),
        content_type="application/x-www-form-urlencoded",
        **{name: value for name, value in given.items() if value is not None},
    )
    assert reply.status == 403
    assert operated.outbox.left() == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/parked/retry", b"", 400),
        ("/api/parked/retry", b"[]", 400),
        ("/api/parked/retry", b"{", 400),
        ("/api/parked/retry", b"\xff\xfe", 400),
        ("/api/parked/retry", b"{}", 400),
        ("/api/parked/retry", b'{"all": false}', 400),
        ("/api/parked/retry", b'{"all": "yes"}', 400),
        ("/api/parked/retry", b'{"all": true, "model": "Order"}', 400),
        ("/api/parked/retry", b'{"key": "1", "all": true}', 400),
        ("/api/parked/retry", b'{"model": 1}', 400),
        ("/api/parked/retry", b'{"model": "Order", "key": "\\u0000"}', 400),
        ("/api/parked/retry", b'{"model": "Order", "key": "\\ud800"}', 400),
        ("/api/parked/retry", b'{"model": "Order", "key": "7"}', 404),
        ("/api/parked/retry", b'{"model": "Nonsense"}', 404),
        ("/api/parked/retry", b"[" * 60_000, 400),
        ("/api/parked/discard", b'{"model": "Order"}', 400),
        ("/api/parked/discard", b'{"model": "Order", "key": "not a number"}', 404),
        ("/api/parked/discard", b'{"model": "Order", "key": "1", "force": true}', 400),
        ("/api/pause", b'{"model": "Order", "reason": ["x"]}', 400),
        ("/api/pause", json.dumps({"model": "Order", "reason": "x" * 501}).encode(), 400),
    ],
)
def test_odd_bodies_are_refused_with_a_sentence(operated: Operated, path: str, body: bytes, status: int) -> None:
    operated.park(1)
    reply = operated.act(path, body)
    assert reply.status == status
    assert reply.json["error"].endswith((".", "}."))
    assert (operated.outbox.left(), operated.outbox.work(), paused(operated)) == (1, (False, False), [])


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_of_another_type_is_refused(operated: Operated, content_type: str | None) -> None:
    assert operated.act("/api/pause", b'{"model": "Order"}', content_type=content_type).status == 415


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=201", "limit=-1", "limit=x", "limit=1&limit=2", "limit=%D9%A1", "offset=50001"),
        *("what=1", "model=%ff", "model=%00", "model=" + "x" * 201, "&".join(f"a{number}" for number in range(100))),
    ],
)
def test_odd_queries_are_refused_with_a_sentence(operated: Operated, query: str) -> None:
    reply = operated.ask("/api/parked", query=query)
    assert reply.status == 400
    assert reply.json["error"]


def test_everything_on_the_pages_is_escaped(operated: Operated) -> None:
    operated.park(1)
    operated.incidents.raised("Order", "model_failing", '<img src=x onerror="alert(1)">', signal="Order")
    operated.status.model_paused("Order", "<script>alert(2)</script>")
    text = operated.ask("/").text
    assert "&lt;b&gt;bad&lt;/b&gt;" in text
    assert "<b>" not in text
    assert "<img" not in text
    assert "<script>alert" not in text
    form = operated.ask("/retry", query=urlencode({"model": "<i>", "key": '"><script>alert(3)</script>'})).text
    assert "<i>" not in form
    assert "<script>alert" not in form


def test_without_the_tables_it_is_told_what_to_do(operated: Operated) -> None:
    operated.park(1)
    with operated.outbox.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE signalbus_parked, signalbus_paused")
    assert operated.ask("/api/parked").status == 409
    assert "ddl parked" in operated.ask("/api/parked").json["error"]
    assert "ddl paused" in operated.act("/api/pause", b'{"model": "Order"}').json["error"]
    page = operated.ask("/")
    assert page.status == 200
    assert "ddl parked" in page.text


def test_locked_table_holds_up_no_page(operated: Operated) -> None:
    operated.park(1)
    with operated.outbox.engine.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE signalbus_parked")
        page = operated.ask("/")
        assert page.status == 200
        assert "Not up to date: The database takes long to answer" in page.text
        busy = operated.ask("/api/parked")
        assert busy.status == 503
        assert "retry-after" in busy.headers
        assert operated.ask("/readyz").status == 200

        def discard() -> str:
            reply = operated.act("/api/parked/discard", DISCARD)
            assert reply.status == 503
            return reply.text

        eventually(lambda: "lock timeout" in discard(), 30, "the discard gives up")
        connection.rollback()
    assert operated.outbox.left() == 1
    assert operated.act("/api/parked/discard", DISCARD).status == 200


def test_requests_take_no_connection_of_workers(operated: Operated) -> None:
    operated.park(1)
    pool: Any = operated.outbox.engine.pool
    held = [operated.outbox.engine.connect() for _ in range(pool.size() + pool._max_overflow)]
    try:
        assert operated.ask("/api/parked").status == 200
        assert operated.act("/api/pause", b'{"model": "Order"}').status == 200
        here = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")

        def number_open() -> int:
            number = int(held[0].scalar(here) or 0)
            # Within a transaction PostgreSQL tells the same again.
            held[0].rollback()
            return number

        eventually(lambda: number_open() == len(held), 10, "no connection is left open")
    finally:
        for connection in held:
            connection.close()


def test_a_page_about_a_healthy_relay_asks_no_database(operated: Operated) -> None:
    operated.outbox.engine.dispose()
    statements: list[str] = []
    sa.event.listen(operated.outbox.engine.dialect, "do_execute", lambda *_: statements.append("one"))
    assert "No signal has failed" in operated.ask("/").text
    assert statements == []
    operated.park(1)
    assert operated.ask("/").status == 200
    count = len(statements)
    assert count
    operated.ask("/")
    assert len(statements) == count
