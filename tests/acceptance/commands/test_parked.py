"""Signals that fail, from the relay that sets them aside to the person who decides about them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from signalbus_core import parked_table_sql
from tests.support import prefork
from tests.support.processes import COMMAND
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop

#: A send method that raises for one kind of body, before anything is sent.
POISON = """
    def signalbus_message(self):
        if self.routing_key == "poison":
            raise ValueError(f"cannot read {self.body}")
        return Message(None, self.routing_key, self.body)
"""

HAND_WRITTEN = """
    @classmethod
    def send_signalbus_messages(cls, signals):
        if any(signal.routing_key == "poison" for signal in signals):
            raise ValueError(f"cannot read {[signal.body for signal in signals]}")
        super().send_signalbus_messages(signals)

    def send_signalbus_message(self):
        self.send_signalbus_messages([self])
"""


def change_sender(shop: Shop, old_start: str, old_end: str, new: str) -> None:
    path = shop.directory / "shop.py"
    source = path.read_text()
    start = source.index(old_start)
    path.write_text(source[:start] + new.lstrip("\n") + source[source.index(old_end, start) :])


@pytest.fixture
def parked(shop: Shop) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The shop with the table, and the command about it."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql())

    def run(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "parked", *arguments, "--app", "shop:create_app"]
        return prefork.run(command, os.environ | shop.environ, shop.directory, text=answer)

    return run


Command = Callable[..., "subprocess.CompletedProcess[str]"]


def listed(parked: Command, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in parked("list", "--json", *arguments).stdout.splitlines()]


@pytest.mark.parametrize("sender", ["message", "method"])
def test_a_poison_signal_is_found_parked_shown_and_sent_after_the_code_was_mended(
    shop: Shop, parked: Command, sender: str
) -> None:
    good = (shop.directory / "shop.py").read_text()
    if sender == "message":
        change_sender(shop, "    def signalbus_message", "    @classmethod", POISON)
    else:
        change_sender(shop, "    @classmethod", "class Order", HAND_WRITTEN + "\n\n")
    shop.write(1, 200)
    shop.write(201, 201, routing_key="poison")
    shop.write(202, 400)
    relay = shop.relay("--park-after", "2")
    line = relay.wait_for_log("signal_parked", 30)
    assert (line["signal"], line["key"]) == ("Order", "201")
    eventually(lambda: shop.left() == 1, 20)
    assert sorted(shop.received()) == [n for n in range(1, 401) if n != 201]
    assert relay.get("/readyz")[0] == 200
    eventually(lambda: 'signalbus_parked_signals{signal="Order"} 1.0' in relay.get("/metrics")[1], 10)

    [shown] = listed(parked)
    assert (shown["model"], shown["key"], shown["state"], shown["attempts"]) == ("Order", "201", "parked", 2)
    assert "ValueError: cannot read" in shown["error_text"]
    assert parked("show", "Order", "201").stdout.startswith("model: Order\nkey: 201\n")

    relay.terminate()
    assert relay.wait() == 0
    (shop.directory / "shop.py").write_text(good)
    shop.broker.bind(shop.queue, shop.environ["TEST_EXCHANGE"], "poison")
    shop.relay("--park-after", "2")
    assert parked("retry", "Order", "201").stdout == "1 will be tried again.\n"
    shop.wait_until_sent()
    assert shop.received() == [201]
    assert listed(parked) == []


def test_the_payload_shows_nowhere(shop: Shop, parked: Command) -> None:
    change_sender(shop, "    def signalbus_message", "    @classmethod", POISON)
    shop.execute("""INSERT INTO "order" (routing_key, body) VALUES ('poison', 'card 4711-0815')""")
    relay = shop.relay("--park-after", "1", "--log-level", "DEBUG")
    relay.wait_for_log("signal_parked")
    everything = relay.output + parked("list").stdout + parked("list", "--json").stdout + relay.get("/metrics")[1]
    assert "cannot read ***" in everything
    assert "4711" not in everything


def test_refused_signals_wait_are_never_parked_and_flow_when_their_route_is_there(shop: Shop, parked: Command) -> None:
    shop.write(1, 30, routing_key="later")
    relay = shop.relay("--park-after", "1")
    relay.wait_for_log("signals_set_aside")
    eventually(lambda: len(listed(parked, "Order")) == 30, 10)
    assert {(one["state"], one["error_class"]) for one in listed(parked)} == {("waiting", "returned")}
    shop.broker.bind(shop.queue, shop.environ["TEST_EXCHANGE"], "later")
    assert "will be tried again" in parked("retry", "--all").stdout
    shop.wait_until_sent()
    assert sorted(shop.received()) == list(range(1, 31))
    assert relay.wait_for_log("signals_flow_again")
    assert not relay.logs("signal_parked")


def test_discarded_signal_is_asked_about_and_leaves_row_behind(shop: Shop, parked: Command) -> None:
    shop.write(1, 2, routing_key="unwanted")
    relay = shop.relay()
    eventually(lambda: len(listed(parked)) == 2, 20)

    refused = parked("discard", "Order", "1", answer="n\n")
    assert refused.returncode == 1
    assert "They will never be sent" in refused.stderr
    assert shop.left() == 2

    record = shop.directory / "discarded.jsonl"
    assert parked("discard", "Order", "1", "--record", str(record), answer="y\n").returncode == 0
    written = json.loads(record.read_text())
    columns = {name: value for name, value in written["row"].items() if name != "signalbus_id"}
    assert columns == {"id": 1, "routing_key": "unwanted", "body": "1"}
    assert (written["model"], written["key"], written["error_class"]) == ("Order", "1", "returned")
    printed = parked("discard", "Order", "2", "--yes")
    assert json.loads(printed.stdout)["row"]["body"] == "2"
    assert shop.left() == 0
    assert listed(parked) == []
    assert relay.is_running


def test_what_cannot_be_recorded_is_not_discarded(shop: Shop, parked: Command) -> None:
    shop.write(1, 1, routing_key="unwanted")
    shop.relay()
    eventually(lambda: len(listed(parked)) == 1, 20)
    done = parked("discard", "Order", "1", "--yes", "--record", str(shop.directory / "none" / "file"))
    assert done.returncode == 1
    assert shop.left() == 1
    assert len(listed(parked)) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["show", "Order", "7"], 1, "Order 7 is not a failed signal"),
        (["retry", "Order", "7"], 1, "Order 7 is not a failed signal"),
        (["discard", "Order", "7", "--yes"], 1, "Order 7 is not a failed signal"),
        (["discard", "Order", "--all", "--yes"], 1, "No signal of Order is parked"),
        (["list", "Nonsense"], 1, "Known are: Invoice, Order"),
        (["retry"], 2, "--all"),
        (["discard", "Order"], 2, "Give a KEY, or --all"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_reason(
    shop: Shop, parked: Command, arguments: list[str], code: int, text: str
) -> None:
    done = parked(*arguments)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_table_it_is_told_what_to_do(shop: Shop, parked: Command) -> None:
    shop.execute("DROP TABLE signalbus_parked")
    done = parked("list")
    assert done.returncode == 1
    assert "signalbus-relay ddl parked" in done.stderr


def test_replicas_leave_alone_what_one_of_them_set_aside(shop: Shop, parked: Command) -> None:
    shop.write(1, 1, routing_key="unwanted")
    first = shop.relay()
    eventually(lambda: len(listed(parked)) == 1, 20)
    shop.execute("UPDATE signalbus_parked SET next_try_at = now() + interval '1 hour'")
    second = shop.relay()
    shop.write(2, 100)
    eventually(lambda: shop.left() == 1, 20)
    assert not second.logs("signals_set_aside")
    assert first.is_running
    [shown] = listed(parked)
    assert shown["key"] == "1"


def test_failed_signals_are_listed_retried_and_discarded_by_groups(shop: Shop, parked: Command) -> None:
    shop.write(1, 5)
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO signalbus_parked (table_name, key, model, attempts, first_failed_at, last_failed_at,"
            " error_class, error_text) SELECT 'order', n, 'Order', 3, now(), now(), 'error', text || n FROM"
            " unnest(ARRAY['bad\x1b[2J ', 'bad\x1b[2J ', 'other ']) WITH ORDINALITY AS failed(text, n)"
        )
    first, second = (json.loads(line) for line in parked("list", "--groups", "--json").stdout.splitlines())
    assert [(one["number"], one["key"]) for one in (first, second)] == [(2, "1"), (1, "3")]
    shown = parked("list", "--groups").stdout
    assert "deploy, then retry" in shown
    assert all(line.isprintable() for line in shown.splitlines())
    assert parked("retry", "Order", "--group", first["group"]).stdout == "2 will be tried again.\n"
    assert parked("retry", "Order", "--group", first["group"]).returncode == 1
    asked = parked("discard", "Order", "--group", second["group"], answer="y\n")
    assert "Delete 1 signals of Order?" in asked.stderr
    assert json.loads(asked.stdout)["key"] == "3"
    assert [one["key"] for one in listed(parked)] == ["1", "2"]
