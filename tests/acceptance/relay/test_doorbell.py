"""Real relays with a doorbell: with polls half a minute apart, signals arrive at once."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from relay.notifier.protocol import TRY_EVERY_SECONDS
from signalbus_core import doorbell_sql
from signalbus_core.lowlevel import doorbell
from tests.support import prefork
from tests.support.broker import Broker
from tests.support.pgbouncer import PrivatePgBouncer
from tests.support.postgres import PrivatePostgres
from tests.support.processes import COMMAND, RelayProcess
from tests.support.shop import Shop as OwnShop
from tests.support.statement_log import SETTINGS, StatementLog
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop

#: Polls alone would come too late for every deadline here.
SELDOM = ("--poll-interval", "60")


def hang_up_bells(shop: Shop) -> None:
    for statement in doorbell_sql("order", "invoice"):
        shop.execute(statement)


def wakeups(relay: RelayProcess, cause: str) -> float:
    found = re.search(rf'signalbus_wakeups_total{{cause="{cause}"}} (\S+)', relay.get("/metrics")[1])
    assert found
    return float(found[1])


def wait_until_asleep(shop: Shop, tables: int = 2) -> None:
    locks = (
        f"locktype = 'advisory' AND classid = {doorbell.SLEEP_LOCK} AND granted AND mode = 'ExclusiveLock' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def is_asleep() -> bool:
        with shop.engine.connect() as connection:
            return connection.scalar(sa.text(f"SELECT count(*) FROM pg_locks WHERE {locks}")) == tables

    eventually(is_asleep, 20, "a relay is asleep")


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_a_signal_written_to_an_idle_relay_is_sent_at_once(shop: Shop, driver: str) -> None:
    hang_up_bells(shop)
    shop.environ["TEST_DATABASE_URL"] = shop.environ["TEST_DATABASE_URL"].replace("+psycopg2", f"+{driver}")
    relay = shop.relay(*SELDOM)
    relay.wait_ready()
    wait_until_asleep(shop)
    for number in range(1, 11):
        shop.write(number, number, ("order", "invoice")[number % 2])
        shop.wait_until_sent(10)
    assert sorted(shop.received()) == list(range(1, 11))
    assert wakeups(relay, "doorbell") >= 1
    assert relay.logs("doorbell_answered")[0]["signals"] == ["Invoice", "Order"]
    relay.terminate()
    assert relay.wait(5) == 0


def test_signals_one_by_one_cost_their_bursts_and_no_other_statement(tmp_path: Path, broker: Broker) -> None:
    with PrivatePostgres(settings=SETTINGS) as server:
        server.start()
        shop = OwnShop(tmp_path, server.create_database(), broker)
        hang_up_bells(shop)
        relay = shop.relay(*SELDOM)
        relay.wait_ready()
        wait_until_asleep(shop)
        # The first burst of a model is rehearsed.
        shop.write(1, 1)
        shop.wait_until_sent(10)
        log = StatementLog(server, "signalbus-relay[^>]*")
        for number in range(2, 22):
            shop.write(number, number)
            shop.wait_until_sent(10)
        relay.terminate()
        assert relay.wait(20) == 0
        # Once a minute the triggers are looked at.
        messages = [message for message in log.new() if "pg_trigger" not in message]
        shop.close()
    kinds = Counter(kind_of(message) for message in messages)
    assert kinds["delete"] == kinds["commit"] == 20
    # A burst that began at the low-water mark may be followed by one from the first key on, which finds nothing.
    assert 20 <= kinds["lock"] <= 40
    assert kinds["begin"] == kinds["lock"]
    assert kinds["rollback"] == kinds["lock"] - 20
    # After the first signal polls are further and further apart, up to a minute.
    assert kinds["poll"] <= 10
    assert set(kinds) <= {"begin", "lock", "delete", "commit", "rollback", "poll"}, "and no sleep lock"


def kind_of(message: str) -> str:
    """What a message of a burst does; of any other, the message."""
    if "FOR UPDATE" in message:
        return "lock"
    if "DELETE FROM" in message:
        return "delete"
    if " AS c1" in message:
        return "poll"
    first = message.split(maxsplit=1)[0].rstrip(";")
    return first.lower() if first in ("BEGIN", "COMMIT", "ROLLBACK") else message


def test_doorkeeper_killed_is_replaced_within_stated_time(shop: Shop) -> None:
    hang_up_bells(shop)
    first = shop.relay(*SELDOM)
    first.wait_for_log("doorbell_answered")
    second = shop.relay(*SELDOM)
    second.wait_ready()
    wait_until_asleep(shop)
    assert second.logs("doorbell_answered") == []
    first.kill()
    second.wait_for_log("doorbell_answered", TRY_EVERY_SECONDS + 10)
    wait_until_asleep(shop)
    shop.write(1, 1)
    shop.wait_until_sent(10)


def test_a_relay_that_may_not_use_the_doorbell_polls(shop: Shop) -> None:
    hang_up_bells(shop)
    relay = shop.relay("--doorbell", "off")
    relay.wait_ready()
    shop.write(1, 10)
    shop.wait_until_sent()
    assert wakeups(relay, "doorbell") == 0
    assert [line["action"] for line in relay.logs() if "doorbell" in str(line.get("action"))] == []


def test_without_triggers_the_relay_polls_and_says_so_once(shop: Shop) -> None:
    relay = shop.relay()
    line = relay.wait_for_log("doorbell_missing")
    assert line["level"] == "INFO"
    assert "signalbus-relay ddl doorbell" in line["message"]
    shop.write(1, 10)
    shop.wait_until_sent()
    assert len(relay.logs("doorbell_missing")) == 1


def test_bell_is_dropped_while_relay_sleeps_and_polling_goes_on(shop: Shop) -> None:
    hang_up_bells(shop)
    relay = shop.relay()
    relay.wait_for_log("doorbell_answered")
    wait_until_asleep(shop)
    shop.execute('DROP TRIGGER signalbus_doorbell ON "order"')
    shop.write(1, 10)
    shop.wait_until_sent()
    assert wakeups(relay, "poll") >= 1


def test_behind_pgbouncer_in_transaction_mode_the_relay_polls_and_says_so_once(
    tmp_path: Path, private_postgres: PrivatePostgres, broker: Broker
) -> None:
    shop = OwnShop(tmp_path, private_postgres.create_database(), broker)
    hang_up_bells(shop)
    with PrivatePgBouncer(private_postgres) as bouncer:
        bouncer.start()
        shop.environ["TEST_DATABASE_URL"] = bouncer.in_front_of(shop.environ["TEST_DATABASE_URL"])
        relay = shop.relay()
        line = relay.wait_for_log("doorbell_deaf", 30)
        assert (line["level"], "PgBouncer" in line["message"]) == ("WARNING", True)
        for number in (1, 2, 3):
            shop.write(number, number)
            shop.wait_until_sent()
        assert len(relay.logs("doorbell_deaf")) == 1
        assert private_postgres.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        shop.close()


def test_what_ddl_doorbell_prints_makes_the_bells(shop: Shop) -> None:
    def printed(*arguments: str) -> str:
        command = [COMMAND, "ddl", "doorbell", *arguments]
        done = prefork.run(command, os.environ | shop.environ, shop.directory)
        done.check_returncode()
        return done.stdout

    of_application, of_tables = printed("--app", "shop:create_app"), printed("invoice", "order")
    assert of_application == of_tables
    for _ in range(2):
        shop.execute(of_application)
    with shop.engine.connect() as connection:
        triggers = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'signalbus_doorbell' ORDER BY 1"
        assert connection.scalars(sa.text(triggers)).all() == ['"order"', "invoice"]
