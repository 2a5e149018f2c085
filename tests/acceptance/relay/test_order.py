"""Order by key by the real command: a table without an application, from its SQL to the person who decides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from signalbus_core import parked_table_sql
from tests.acceptance.relay.test_tables import Outboxes
from tests.support.broker import Broker
from tests.support.waiting import eventually

ORDERED = ("--table", "moves", "--map", "order_by=app_id")


@pytest.fixture
def moves(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Outboxes]:
    outboxes = Outboxes(tmp_path, database_url, broker)
    printed = [outboxes.run("ddl", *one).stdout for one in (("outbox", "moves"), ("order", "moves", "--by", "app_id"))]
    outboxes.execute(*printed, printed[1], parked_table_sql())
    yield outboxes
    outboxes.close()


def put(moves: Outboxes, *signals: tuple[int, str | None], bad: tuple[int, ...] = ()) -> None:
    """Each with its key and its number; bad ones are no valid messages."""
    for number, key in signals:
        own = "NULL" if key is None else f"'{key}'"
        headers = "'[]'" if number in bad else "NULL"
        values = f"{number}, '{moves.exchange}', 'k', '{number}', {own}, {headers}"
        moves.execute(f"INSERT INTO moves (id, exchange, routing_key, body_text, app_id, headers) VALUES ({values})")


def test_a_parked_signal_blocks_its_key_until_somebody_skips_it(moves: Outboxes) -> None:
    put(moves, (9, "a"), (2, "a"), (3, "a"), (4, "b"), (5, None), bad=(2,))
    # Failed signals are left, which its exit code tells.
    assert moves.send(*ORDERED, "--park-after", "1").returncode == 1
    assert sorted(one.text for one in moves.received()) == ["4", "5", "9"]
    blocked = json.loads(moves.run("explain", "moves", "3", *ORDERED, "--json").stdout)
    assert blocked["state"] == "blocked"
    assert "is blocked by moves 2 of the same key, parked since" in blocked["story"][0]
    assert "; 1 waits behind it" in blocked["story"][0]
    assert json.loads(moves.run("parked", "list", *ORDERED, "--json").stdout)["held_back"] == 1
    assert "(1 waits behind it)" in moves.run("parked", "list", *ORDERED).stdout
    relay = moves.relay(*ORDERED)
    eventually(lambda: 'signalbus_blocked_keys{signal="moves"} 1.0' in relay.get("/metrics")[1], 30, "it is counted")

    def blocked_by() -> list[dict[str, Any]]:
        [model] = json.loads(relay.get("/api/status")[1])["models"]
        return list(model["blocked_by"] or [])

    [blocked] = eventually(blocked_by, 30, "it is named")
    assert (blocked["key"], blocked["waiting_behind"], blocked["parked_since"] is None) == ("2", 1, False)
    assert re.search(r"Blocked by moves 2, parked since <time [^>]*>[^<]*</time>; 1 waits behind it", relay.get("/")[1])
    assert moves.run("parked", "skip", "moves", "2", *ORDERED).returncode == 0
    eventually(lambda: moves.count("moves") == 1, 30, "the others are sent")
    assert [one.text for one in moves.received()] == ["3"]
    eventually(lambda: 'signalbus_blocked_keys{signal="moves"} 0.0' in relay.get("/metrics")[1], 30, "none is blocked")
    assert blocked_by() == []
    assert moves.run("parked", "skip", "moves", "2", *ORDERED).returncode == 1


def test_two_relays_keep_the_order_of_each_key(moves: Outboxes) -> None:
    relays = [moves.relay(*ORDERED, "--workers", "2") for _ in range(2)]
    keys = "abcdefg"
    for first in range(0, 210, 30):
        put(moves, *((number, keys[number % 7]) for number in range(first, first + 30)))
    moves.wait_until_empty("moves")
    assert all("Traceback" not in relay.output for relay in relays)
    arrived = list(dict.fromkeys(int(one.text) for one in moves.received()))
    assert len(arrived) == 210
    for key in range(7):
        own = [number for number in arrived if number % 7 == key]
        assert own == sorted(own)


def test_a_relay_that_was_stopped_sends_nothing_late(moves: Outboxes) -> None:
    """It is stopped while it sends a long run; another one goes on when PostgreSQL has ended its transaction."""
    put(moves, *((number, "a") for number in range(400)))
    limits = ("--idle-timeout", "4", "--workers", "1")
    environ = {"AMQP_URL": f"{moves.broker.url}?heartbeat=1"}
    first = moves.relay(*ORDERED, *limits, **environ)
    eventually(lambda: moves.broker.count(moves.queue) > 20, 30, "it is sending", 0.005)

    def stopped_in_a_burst() -> bool:
        first.pause()
        if moves.count("pg_stat_activity WHERE state = 'idle in transaction' AND datname = current_database()"):
            return True
        first.resume()
        return False

    eventually(stopped_in_a_burst, 30, "it is stopped in a burst", 0.001)
    try:
        moves.relay(*ORDERED, *limits, **environ)
        moves.wait_until_empty("moves")
        before = moves.received()
        told = len(first.output)
    finally:
        first.resume()
    eventually(lambda: len(first.output) > told, 20, "it has noticed what it missed")
    put(moves, (1000, "a"))
    moves.wait_until_empty("moves")
    assert [one.text for one in moves.received()] == ["1000"]
    arrived = list(dict.fromkeys(int(one.text) for one in before))
    assert arrived == list(range(400))


def test_limits_with_which_a_relay_could_send_late_are_refused(moves: Outboxes) -> None:
    done = moves.send(*ORDERED, "--idle-timeout", "30")
    assert done.returncode == 2
    assert "Set --idle-timeout to 80 or more, or heartbeat=7 or less" in done.stderr
    assert moves.send(*ORDERED, AMQP_URL=f"{moves.broker.url}?heartbeat=0").returncode == 2
    assert "fencing-unsure" in moves.run("check", *ORDERED, "--only", "config", "--idle-timeout", "30").stdout
    assert moves.send("--table", "moves", "--idle-timeout", "30").returncode == 0


def test_check_and_relay_tell_of_a_trigger_that_is_off(moves: Outboxes) -> None:
    assert "order-unfit" not in moves.run("check", *ORDERED, "--only", "tables", "--json").stdout
    moves.execute("ALTER TABLE moves DISABLE TRIGGER signalbus_position")
    assert "ENABLE TRIGGER signalbus_position" in moves.run("check", *ORDERED, "--only", "tables").stdout
    put(moves, (2, "a"), (1, "a"))
    done = moves.send(*ORDERED)
    assert (done.returncode, [one.text for one in moves.received()]) == (0, ["2", "1"])
    assert "its signals are sent in the order in which they were inserted" in done.stderr


def test_a_table_that_cannot_be_ordered_is_refused(moves: Outboxes) -> None:
    moves.execute("ALTER TABLE moves DROP COLUMN signalbus_position CASCADE")
    wrong = moves.send("--table", "moves", "--map", "order_by=app_id,body_json,nope")
    assert wrong.returncode == 2
    for text in ("no column 'nope'", "'body_json' is of type jsonb", "`signalbus-relay ddl order moves --by app_id"):
        assert text in wrong.stderr


def test_a_table_with_an_order_and_a_schedule_is_refused(moves: Outboxes) -> None:
    moves.execute("ALTER TABLE moves ADD COLUMN due timestamptz")
    for given in (("--not-before", "due"), ("--map", "due=send_after")):
        done = moves.send(*ORDERED, *given)
        assert done.returncode == 2
        assert "order_by: a table has no order by key and a schedule (column 'due') at once." in done.stderr
