"""Send methods that do what they should not, in a real relay: it stays up, nothing is lost, and the good ones go on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from signalbus_core import parked_table_sql
from tests.support.broker import Broker
from tests.support.processes import RelayProcess
from tests.support.shop import Shop
from tests.support.waiting import eventually

#: What a send method may do beside sending, and how it fails. Each is asked for by the routing key of a signal.
SENDER = """
    line_id = db.Column(db.Integer, db.ForeignKey("line.id"))
    line = db.relationship("Line", lazy="select")

    @classmethod
    def send_signalbus_messages(cls, signals):
        for signal in signals:
            misbehave(signal)
        super().send_signalbus_messages(signals)

    def send_signalbus_message(self):
        misbehave(self)
        super().send_signalbus_message()


class Line(db.Model):
    id = db.Column(db.Integer, primary_key=True)
    text = db.Column(db.Text)


def misbehave(signal):
    session = db.session
    match signal.routing_key.removeprefix("do."):
        case "commit":
            session.commit()
        case "update-and-commit":
            signal.line_id = None
            session.commit()
        case "rollback":
            session.rollback()
        case "close":
            session.close()
        case "remove":
            session.remove()
        case "broken-transaction":
            try:
                session.execute(db.text("SELECT 1/0"))
            except Exception:
                pass
        case "modify":
            signal.body, signal.routing_key = signal.body, "do.modified"
        case "add":
            session.add(Line(text="written by a sender"))
        case "delete-itself":
            session.delete(signal)
        case "nested":
            with session.begin_nested():
                session.add(Line(text="in a savepoint"))
        case "nested-rolled-back":
            savepoint = session.begin_nested()
            session.add(Line(text="never"))
            savepoint.rollback()
        case "lazy-load":
            assert signal.line.text == "loaded later"
        case "expire":
            session.expire_all()
        case "raise":
            raise ValueError("on purpose")
        case "exit":
            raise SystemExit(3)
        case "recurse":
            misbehave_for_ever()
        case "no-memory":
            raise MemoryError
        case "bad-exception":
            raise Unprintable
        case "hang":
            Path("hanging").touch()
            while not Path("let-go").exists():
                threading.Event().wait(0.05)


def misbehave_for_ever():
    misbehave_for_ever()


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


"""

HARMLESS = [
    *(
        "commit",
        "update-and-commit",
        "rollback",
        "close",
        "remove",
        "broken-transaction",
        "modify",
        "add",
        "delete-itself",
    ),
    *("nested", "nested-rolled-back", "lazy-load", "expire"),
]
FAILING = {
    "raise": "ValueError: on purpose",
    "exit": "SystemExit: 3",
    "recurse": "RecursionError: maximum recursion depth exceeded",
    "no-memory": "MemoryError",
    "bad-exception": "Unprintable: (its text cannot be had)",
}


@pytest.fixture
def bad_shop(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[Shop]:
    with closing(Shop(tmp_path, database_url, broker)) as shop:
        yield with_bad_sender(shop)


def with_bad_sender(shop: Shop) -> Shop:
    path = shop.directory / "shop.py"
    source = path.read_text()
    start = source.index("class Order(Sent)")
    end = source.index("class Invoice")
    columns = source[start:end].rstrip()
    path.write_text(source[:start] + columns + "\n" + SENDER.rstrip() + "\n\n\n" + source[end:])
    shop.execute('CREATE TABLE "line" (id serial PRIMARY KEY, text text)')
    shop.execute("""INSERT INTO "line" (text) VALUES ('loaded later')""")
    shop.execute('ALTER TABLE "order" ADD line_id int DEFAULT 1')
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql())
    shop.broker.bind(shop.queue, shop.environ["TEST_EXCHANGE"], "do.*")
    return shop


def write_kinds(shop: Shop, kinds: list[str]) -> None:
    number = 0
    for kind in kinds:
        # Good ones around it, so that a burst holds both.
        shop.write(number + 1, number + 10)
        shop.write(number + 11, number + 11, routing_key=f"do.{kind}")
        number += 11


def test_what_a_send_method_does_beside_sending_costs_no_message(bad_shop: Shop) -> None:
    write_kinds(bad_shop, HARMLESS)
    total = 11 * len(HARMLESS)
    relay = bad_shop.relay("--workers", "2")
    bad_shop.wait_until_sent(60)
    received = Counter(bad_shop.received())
    assert set(received) == set(range(1, total + 1))
    # Only a lost lock can lead to a second copy: of the bursts whose transaction the sender itself ended.
    assert max(received.values()) <= 1 + len(HARMLESS)
    assert relay.is_running
    assert relay.get("/livez")[0] == 200
    assert relay.get("/readyz")[0] == 200
    assert not [line for line in relay.logs() if line["level"] in ("ERROR", "CRITICAL")]


def test_whatever_sender_raises_keeps_signal_and_others_go_on(bad_shop: Shop) -> None:
    write_kinds(bad_shop, list(FAILING))
    bad = {11 * (number + 1): reason for number, reason in enumerate(FAILING.values())}
    relay = bad_shop.relay("--workers", "1", "--park-after", "1")
    eventually(lambda: bad_shop.left() == len(FAILING), 40, "only the failing ones are left")
    assert sorted(bad_shop.received()) == [n for n in range(1, 11 * len(FAILING) + 1) if n not in bad]
    with bad_shop.engine.connect() as connection:
        noted = connection.execute(sa.text("SELECT key, error_text FROM signalbus_parked ORDER BY key::int")).all()
    assert {int(key): text for key, text in noted} == bad
    assert relay.is_running
    assert relay.get("/livez")[0] == 200
    assert not [line for line in relay.logs() if line["level"] in ("ERROR", "CRITICAL")]


def test_a_send_method_that_never_returns_makes_liveness_fail_and_holds_up_nobody_else(bad_shop: Shop) -> None:
    bad_shop.write(1, 1, routing_key="do.hang")
    bad_shop.write(2, 50)
    relay = bad_shop.relay("--workers", "2", "--stall-after", "3")
    eventually((bad_shop.directory / "hanging").exists, 20)
    bad_shop.write(51, 200)
    eventually(lambda: bad_shop.left() == 50, 20, "the other worker sends what is not locked")
    assert sorted(bad_shop.received()) == list(range(51, 201))
    status = eventually(lambda: next((code for code, text in [relay.get("/livez")] if "worker-" in text), None), 20)
    assert status == 503
    relay.terminate()
    relay.wait_for_log("stopping")
    relay.terminate()
    assert relay.wait(20) == 3
    assert bad_shop.left() == 50


@pytest.mark.parametrize("workers", [1, 2])
def test_hanging_model_holds_up_no_other_and_is_told(bad_shop: Shop, workers: int) -> None:
    bad_shop.write(1, 1, routing_key="do.hang")
    relay = bad_shop.relay("--workers", str(workers))
    for number in range(workers):
        eventually((bad_shop.directory / "hanging").exists, 30, "a worker hangs")
        if number + 1 < workers:
            (bad_shop.directory / "hanging").unlink()
            bad_shop.write(2, 2, routing_key="do.hang")
    for number in range(101, 108):
        bad_shop.write(number, number, "invoice")
        eventually(lambda: bad_shop.left("invoice") == 0, 30, "the other model flows")

    told = eventually(lambda: relay.readiness()["reasons"], 15, "it is told of")
    assert relay.readiness()["stuck_models"] == ["Order"]
    assert re.match(r"Order: worker-[12] has made no progress for ", told[0])
    assert "its send method has not returned" in told[0]
    assert relay.get("/readyz")[0] == 503
    assert relay.get("/livez")[0] == 200
    assert "Signals of Order do not flow since" in relay.get("/")[1]
    assert relay.wait_for_log("burst_hangs")["signal"] == "Order"

    (bad_shop.directory / "let-go").touch()
    bad_shop.wait_until_sent()
    assert sorted(bad_shop.received()) == [*range(1, workers + 1), *range(101, 108)]
    eventually(lambda: relay.get("/readyz")[0] == 200, 20, "it is over")
    assert relay.logs("burst_goes_on")
    names = [f"worker-{number + 1}" for number in range(workers)]
    eventually(lambda: [one["name"] for one in status_of(relay)["workers"]] == names, 20, "no worker is left over")
    assert relay.is_running


def test_several_models_may_hang_with_two_workers(bad_shop: Shop) -> None:
    source = (bad_shop.directory / "shop.py").read_text()
    source = source.replace("def pause(place):", MORE_MODELS + "def pause(place):")
    (bad_shop.directory / "shop.py").write_text(source)
    for table in ("first", "second", "third"):
        bad_shop.execute(f"CREATE TABLE {table} (id serial PRIMARY KEY)")
        bad_shop.execute(f"INSERT INTO {table} DEFAULT VALUES")
    relay = bad_shop.relay("--workers", "2")
    eventually(lambda: relay.readiness()["stuck_models"] == ["First", "Second", "Third"], 60)
    bad_shop.write(1, 7, "invoice")
    eventually(lambda: bad_shop.left("invoice") == 0, 30, "the other model flows")


#: They hang, all of them.
MORE_MODELS = """
class Hanging(db.Model):
    __abstract__ = True
    id = db.Column(db.Integer, primary_key=True)

    def send_signalbus_message(self):
        threading.Event().wait()


class First(Hanging):
    pass


class Second(Hanging):
    pass


class Third(Hanging):
    pass


"""

#: Sends one signal after the other, half a second each: through the publisher, or by the library's own loop.
SLOW_SENDERS = {
    "publisher": """
    @classmethod
    def send_signalbus_messages(cls, signals):
        for signal in signals:
            threading.Event().wait(0.5)
            super().send_signalbus_messages([signal])

    def send_signalbus_message(self):
        self.send_signalbus_messages([self])
""",
    "one by one": """
    send_signalbus_messages = None

    def send_signalbus_message(self):
        threading.Event().wait(0.5)
        super().send_signalbus_message()
""",
}


@pytest.mark.parametrize("sender", SLOW_SENDERS)
def test_a_burst_that_takes_longer_than_the_stall_limit_is_alive_while_it_makes_progress(
    tmp_path: Path, database_url: str, broker: Broker, sender: str
) -> None:
    with closing(Shop(tmp_path, database_url, broker)) as shop:
        path = shop.directory / "shop.py"
        head, tail = path.read_text().split("class Invoice")
        path.write_text(head.rstrip() + "\n" + SLOW_SENDERS[sender] + "\n\nclass Invoice" + tail)
        shop.write(1, 12)
        relay = shop.relay("--stall-after", "2")
        relay.wait_for_log("started")

        def is_sent() -> bool:
            assert relay.get("/livez")[0] == 200
            return shop.left() == 0

        eventually(is_sent, 60, "it is sent, in one burst, in which no thread was called stuck")
        assert sorted(shop.received()) == list(range(1, 13))


def status_of(relay: RelayProcess) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(relay.get("/api/status")[1])
    return status
