"""What `signalbus-relay explain` tells of a signal in each of its states, with the real command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from signalbus_core import parked_table_sql, paused_table_sql
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop


@pytest.fixture
def told(shop: Shop) -> Shop:
    """The shop with the tables of Signalbus."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
    return shop


def story(shop: Shop, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = shop.command("explain", *arguments, "--json")
    assert (done.returncode, done.stderr) == (code, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def set_aside(shop: Shop, key: int, next_try: str) -> None:
    shop.execute(
        f"INSERT INTO signalbus_parked VALUES ('order', '{key}', 'Order', 3, now(), now(), {next_try}, 'returned', "
        "'no queue is bound')"
    )


def test_a_pending_signal_its_message_and_what_comes_before_it(told: Shop) -> None:
    told.write(1, 12)
    found = story(told, "Order", "12")
    assert (found["state"], found["before"], found["relay_sessions"]) == ("pending", 11, 0)
    exchange = told.environ["TEST_EXCHANGE"]
    assert found["messages"] == [{"exchange": exchange, "routing_key": "wanted"}]
    assert [answer["remedy"] for answer in found["broker"]] == [None]
    assert "11 signals of its model come before it." in found["story"]
    assert found["to_do"].startswith("Make sure that a relay runs")

    set_aside(told, 5, "NULL")
    text = told.command("explain", "Order", "12").stdout.splitlines()
    assert text[0] == "Order 12 is pending."
    assert "- 10 signals of its model come before it." in text
    assert text[-1].startswith("To do: ")
    assert "\x1b" not in "".join(text)


def test_missing_exchange_and_broker_away_are_what_to_mend(told: Shop) -> None:
    told.write(1, 1)
    told.environ["TEST_EXCHANGE"] = "nowhere"
    found = story(told, "Order", "1")
    assert found["broker"] == [
        {"text": "The exchange 'nowhere' does not exist.", "remedy": "Declare the exchange 'nowhere'."}
    ]
    assert found["to_do"] == "Declare the exchange 'nowhere'."

    elsewhere = {"SIGNALBUS_RELAY_AMQP_URL": "amqp://guest:hunter2@127.0.0.1:1/"}
    done = told.command("explain", "Order", "1", **elsewhere)
    assert "cannot be asked: nothing listens there" in done.stdout
    assert done.stdout.splitlines()[-1] == "To do: Check that the broker runs, and the host and port in its URL."
    assert story(told, "Order", "1", "--no-broker")["broker"] == []
    assert "hunter2" not in done.stdout + done.stderr


def test_a_signal_that_a_relay_is_sending_is_locked_by_it_and_asking_holds_up_nobody(told: Shop) -> None:
    told.write(1, 5)
    with told.paused("confirmed") as wait_for_relay:
        relay = told.relay("--workers", "1")
        wait_for_relay()
        found = story(told, "Order", "3")
        assert found["state"] == "locked"
        assert found["holder"]["application_name"] == "signalbus-relay"
        assert found["relay_sessions"] >= 1
        assert "a relay is sending it" in found["to_do"]
    eventually(lambda: told.left() == 0, 20)
    assert sorted(told.received()) == [1, 2, 3, 4, 5]
    assert relay.is_running


def test_session_that_holds_signal_or_locks_table_is_named(told: Shop) -> None:
    told.write(1, 2)
    with told.engine.connect() as other:
        pid = other.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        other.exec_driver_sql("SET application_name = 'report'")
        other.exec_driver_sql('SELECT FROM "order" WHERE id = 1 FOR UPDATE')
        held = story(told, "Order", "1")
        assert (held["state"], held["holder"]["pid"]) == ("locked", pid)
        assert f"pid {pid} (report), idle in transaction" in held["story"][0]
        assert f"pg_terminate_backend({pid})" in held["to_do"]
        assert story(told, "Order", "2")["state"] == "pending"

        other.exec_driver_sql('LOCK TABLE "order" IN ACCESS EXCLUSIVE MODE')
        locked = story(told, "Order", "1")
        assert (locked["state"], locked["holder"]["pid"]) == ("table-locked", pid)


def test_a_message_that_cannot_be_made_is_told_without_payload(told: Shop) -> None:
    path = told.directory / "shop.py"
    makes = "return Message(None, self.routing_key, self.body)"
    path.write_text(path.read_text().replace(makes, 'raise ValueError(f"cannot read {self.body}")'))
    told.execute("""INSERT INTO "order" (routing_key, body) VALUES ('wanted', 'card 4711-0815')""")
    done = told.command("explain", "Order", "1")
    assert done.returncode == 0
    assert "Its messages cannot be made: ValueError: cannot read ***" in done.stdout
    assert "4711" not in done.stdout + done.stderr


def test_route_that_was_tried_is_not_said_to_be_unknown(told: Shop) -> None:
    told.write(1, 1)
    assert story(told, "Order", "1")["broker"][0]["text"].endswith("known only by sending.")
    set_aside(told, 1, "now() + interval '1 hour'")
    assert story(told, "Order", "1")["broker"][0]["text"].endswith("when it was sent last, 'wanted' reached no queue.")
