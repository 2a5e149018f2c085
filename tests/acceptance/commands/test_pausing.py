"""A person pauses a model, and resumes it, while relays run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from signalbus_core import parked_table_sql, paused_table_sql
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop


@pytest.fixture
def pausable(shop: Shop) -> Shop:
    """The shop with the tables of Signalbus."""
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
    return shop


def test_a_pause_during_catch_up_holds_for_all_replicas_and_survives_restarts_until_resumed(pausable: Shop) -> None:
    shop = pausable
    shop.write(1, 3000)
    with shop.paused("confirmed") as wait_for_relay:
        relays = [shop.relay(), shop.relay()]
        wait_for_relay()
        done = shop.command("pause", "Order", "--reason", "the queue is being moved")
        assert (done.returncode, done.stdout) == (0, "Order is paused.\n")
        for relay in relays:
            line = relay.wait_for_log("model_paused")
            assert (line["signal"], line["reason"]) == ("Order", "the queue is being moved")

    # Each burst in flight ends, and no other begins.
    shop.write(3001, 3010, "invoice")
    eventually(lambda: shop.left("invoice") == 0, 30, "other models are sent")
    relays[0].terminate()
    assert relays[0].wait() == 0
    successor = shop.relay()
    successor.wait_for_log("model_paused")
    left = shop.left()
    assert left >= 3000 - 2 * 2 * 50
    shop.write(3011, 3020)
    seen = f'signalbus_backlog_signals{{signal="Order"}} {left + 10}.0'
    eventually(lambda: seen in successor.get("/metrics")[1], 30, "the backlog is measured")
    for relay in (relays[1], successor):
        assert 'signalbus_paused{signal="Order"} 1.0' in relay.get("/metrics")[1]
        assert relay.get("/readyz")[0] == 200
    assert shop.left() == left + 10

    done = shop.command("resume", "--all")
    assert (done.returncode, done.stdout) == (0, "Order is resumed.\n")
    shop.wait_until_sent(60)
    assert sorted(shop.received()) == list(range(1, 3021))
    assert relays[1].wait_for_log("model_resumed")["signal"] == "Order"


def test_until_empty_ends_with_1_and_says_which_model_is_paused(pausable: Shop) -> None:
    pausable.write(1, 3)
    pausable.write(4, 6, "invoice")
    assert pausable.command("pause", "Order").returncode == 0
    relay = pausable.relay("--until-empty")
    assert relay.wait(60) == 1
    assert relay.logs("stopping")[0]["reason"] == "signals are left of Order, which is paused"
    assert (pausable.left("order"), pausable.left("invoice")) == (3, 0)
    pausable.execute('DELETE FROM "order"')
    assert pausable.relay("--until-empty").wait(60) == 0
