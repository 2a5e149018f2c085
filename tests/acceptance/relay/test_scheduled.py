"""Scheduled signals and a real relay: with polls a minute apart, each is sent when its time comes, and none before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from signalbus_core import doorbell_sql
from signalbus_core.rabbitmq import outbox_table_sql
from tests.acceptance.relay.test_tables import Outboxes
from tests.support.broker import Broker
from tests.support.waiting import eventually

#: Polls alone would come too late for every deadline here.
SELDOM = ("--poll-interval", "60")

#: What was deleted, and how many seconds after its time: the clock of the database counts.
NOTE_GONE = (
    "CREATE FUNCTION note_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO gone VALUES (OLD.routing_key,"
    " extract(epoch FROM clock_timestamp() - OLD.signalbus_send_after)); RETURN OLD; END $$"
)
LATENESS = (
    "CREATE TABLE gone (key text, late float8)",
    NOTE_GONE,
    "CREATE TRIGGER note_gone AFTER DELETE ON later FOR EACH ROW EXECUTE FUNCTION note_gone()",
)


class Scheduled(Outboxes):
    """An outbox table with scheduled rows, as ``ddl outbox --scheduled`` prints it."""

    def schedule(self, keys: str, after: str) -> None:
        """Commit rows.

        :param keys: a query of their keys, ``n``.
        :param after: when each is due, in SQL.
        """
        self.execute(
            "INSERT INTO later (exchange, routing_key, body_text, signalbus_send_after) "
            f"SELECT '{self.exchange}', 'k' || n, '1', {after} FROM {keys} n"
        )

    def lateness(self) -> list[float]:
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql("SELECT late FROM gone WHERE late IS NOT NULL").scalars())


@pytest.fixture
def outbox(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Scheduled]:
    outbox = Scheduled(tmp_path, database_url, broker)
    outbox.execute(*outbox_table_sql("later", scheduled=True).strip(";").split(";\n"))
    yield outbox
    outbox.close()


@pytest.mark.parametrize("doorbell", [True, False])
def test_each_is_sent_at_its_time_by_a_relay_that_sleeps_or_polls(outbox: Scheduled, doorbell: bool) -> None:
    outbox.execute(*LATENESS, *(doorbell_sql("later") if doorbell else ()))
    outbox.schedule("generate_series(1, 3)", "now() + interval '1 day'")
    relay = outbox.relay("--table", "later", *(SELDOM if doorbell else ()))
    relay.wait_ready()
    if doorbell:
        relay.wait_for_log("doorbell_answered", 30)
    outbox.schedule("generate_series(1, 20)", "now() + interval '1 second' + n * interval '200 ms'")
    outbox.wait_until_left("later", 3)
    late = outbox.lateness()
    assert len(late) == 20
    assert min(late) > 0
    assert median(late) < 0.5


def test_new_signals_are_sent_before_those_of_a_backlog(outbox: Scheduled) -> None:
    outbox.schedule("generate_series(1, 15000)", "NULL")
    relay = outbox.relay("--table", "later", "--fresh-first")
    relay.wait_ready()
    eventually(lambda: outbox.count("later") < 14_500, 60, "the backlog is being sent", 0.005)
    outbox.schedule("generate_series(100001, 100020)", "NULL")
    new = "later WHERE routing_key LIKE 'k1000__'"
    eventually(lambda: outbox.count(new) == 0, 30, "the new ones are sent", 0.005)
    assert outbox.count("later") > 0
    outbox.wait_until_empty("later")
