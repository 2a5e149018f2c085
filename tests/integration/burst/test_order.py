"""Order by key in the burst, against a real PostgreSQL: which signals it takes, and what it sends after a failure."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from signalbus_core import OrderedSignal, Outcome, OutcomeKind, PartialDeliveryError, ScheduledSignal, SignalModelError
from signalbus_core.lowlevel import Choice, Ring, blocked_keys, send_burst
from signalbus_core.rabbitmq import Message, Publisher
from signalbus_core.sql.ordered import heads
from tests.support.broker import Broker
from tests.support.clock import Clock
from tests.support.outbox_app import OutboxApp

REFUSED = Outcome(OutcomeKind.REFUSED, "no queue", cause="returned")


class Orders(OutboxApp):
    """Changes of accounts. What was sent is recorded by wave; signals in ``bad`` fail."""

    def __init__(self, url: str, **members: Any) -> None:
        super().__init__(url)
        self.waves: list[list[int]] = []
        self.bad: set[int] = set()
        orders = self

        def send_many(cls: Any, instances: list[Any]) -> None:
            orders.waves.append([one.id for one in instances])
            failed = [(one, REFUSED) for one in instances if one.id in orders.bad]
            if failed:
                raise PartialDeliveryError([one for one in instances if one.id not in orders.bad], failed)

        def send_one(self: Any) -> None:
            send_many(type(self), [self])

        key = sa.Column(sa.BigInteger, primary_key=True, autoincrement=False)
        own = {
            "id": key,
            "account": sa.Column(sa.Text),
            "signalbus_order_by": "account",
            "signalbus_burst_count": 100,
            "send_signalbus_message": send_one,
            "send_signalbus_messages": classmethod(send_many),
        }
        self.changed = self._add("Changed", (OrderedSignal, self.db.Model), {**own, **members})
        self.create()

    @property
    def sent(self) -> list[int]:
        return [one for wave in self.waves for one in wave]

    def put(self, *signals: tuple[int, str | None]) -> None:
        with self.app.app_context():
            self.db.session.execute(sa.insert(self.changed), [{"id": id, "account": one} for id, one in signals])
            self.db.session.commit()

    def connection(self) -> sa.Connection:
        with self.app.app_context():
            return self.db.engine.connect()

    def flush(self) -> int:
        with self.app.app_context():
            return self.db.signalbus.flushmany()


@pytest.fixture
def orders(database_url: str) -> Iterator[Orders]:
    app = Orders(database_url)
    yield app
    app.close()


def test_a_burst_sends_a_key_in_waves(orders: Orders) -> None:
    orders.put((5, "a"), (4, "b"), (3, "a"), (2, "a"), (1, "b"))
    result = orders.burst(orders.changed)
    assert [sorted(wave) for wave in orders.waves] == [[4, 5], [1, 3], [2]]
    assert (result.selected, result.sent, orders.left(orders.changed)) == (5, 5, [])


def test_the_order_is_that_of_commits_not_of_keys_or_inserts(orders: Orders) -> None:
    with orders.connection() as late, orders.connection() as other:
        late.execute(sa.insert(orders.changed), [{"id": 9, "account": "a"}])
        other.execute(sa.insert(orders.changed), [{"id": 1, "account": "b"}])
        other.commit()
        assert orders.burst(orders.changed).sent == 1
        late.commit()
    orders.put((2, "a"))
    orders.burst(orders.changed)
    assert orders.sent == [1, 9, 2]


def test_a_writer_of_a_key_waits_for_the_one_before(orders: Orders) -> None:
    with orders.connection() as first, orders.connection() as second:
        first.execute(sa.insert(orders.changed), [{"id": 2, "account": "a"}])
        second.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            second.execute(sa.insert(orders.changed), [{"id": 1, "account": "a"}])


def test_a_key_whose_head_is_locked_is_passed_over_with_all_behind(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "b"), (4, "a"))
    with orders.connection() as other:
        other.execute(sa.select(orders.changed.id).where(orders.changed.id == 1).with_for_update())
        orders.burst(orders.changed)
        assert orders.sent == [3]
    orders.burst(orders.changed)
    assert orders.sent == [3, 1, 2, 4]


def test_nothing_behind_a_locked_follower_is_taken(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "a"))
    with orders.connection() as other:
        other.execute(sa.select(orders.changed.id).where(orders.changed.id == 2).with_for_update())
        orders.burst(orders.changed)
    assert orders.sent == [1]


def test_a_failed_signal_holds_back_its_key_alone(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"))
    orders.bad = {2}
    result = orders.burst(orders.changed)
    assert sorted(orders.sent) == [1, 2, 4, 5]
    assert (result.selected, result.sent, [one.key for one in result.failed]) == (4, 3, [(2,)])
    assert not result.has_unmentioned
    assert orders.left(orders.changed) == [2, 3]


def test_an_excluded_signal_blocks_its_key(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "b"))
    orders.burst(orders.changed, choice=Choice(exclude=((1,),)))
    assert orders.sent == [3]


def test_only_the_head_of_a_key_is_retried(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "b"))
    orders.burst(orders.changed, choice=Choice(only=((2,), (3,))))
    assert orders.sent == [3]


def test_signals_without_a_key_wait_for_nothing(orders: Orders) -> None:
    orders.put((1, None), (2, None), (3, "a"), (4, "a"))
    orders.bad = {1}
    result = orders.burst(orders.changed)
    assert sorted(orders.waves[0]) == [1, 2, 3]
    assert (result.sent, orders.left(orders.changed)) == (3, [1])


@pytest.mark.parametrize("notices", ["a new connection to the broker", "a statement that is due"])
def test_a_burst_whose_transaction_has_ended_sends_no_more(
    orders: Orders, broker: Broker, monkeypatch: pytest.MonkeyPatch, notices: str
) -> None:
    """It stood still: the broker has dropped its connection, and PostgreSQL has ended its transaction."""
    queue, clock = broker.queue(), Clock()
    with Publisher(url=broker.url) as publisher:

        def send(self: Any) -> None:
            publisher.publish_messages([Message(exchange="", routing_key=queue, body=str(self.id))])
            if self.id == 2:
                pid = orders.db.session.scalar(sa.select(sa.func.pg_backend_pid()))
                with orders.connection() as other:
                    assert other.scalar(sa.select(sa.func.pg_terminate_backend(pid, 60_000)))
                if notices == "a statement that is due":
                    clock.now += 1000
                else:
                    publisher.disconnect()

        monkeypatch.setattr(orders.changed, "send_signalbus_message", send)
        orders.put((1, "a"), (2, "a"), (3, "a"), (4, "a"))
        orders.burst(orders.changed, clock=clock)
        assert [one.text for one in broker.take_all(queue)] == ["1", "2"]
        assert orders.left(orders.changed) == [3, 4]


def test_bursts_give_each_key_its_turn(orders: Orders) -> None:
    orders.put(*((number, f"k{number % 5}") for number in range(20)))
    ring = Ring()
    for _ in range(3):
        orders.burst(orders.changed, limit=2, choice=Choice(ring=ring))
    assert sorted(orders.sent) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", [sa.Date, sa.DateTime, sa.DateTime(timezone=True)])
def test_a_key_of_infinity_stops_no_other_keys(database_url: str, kind: Any) -> None:
    app = Orders(database_url, account=sa.Column(kind))
    app.execute("INSERT INTO changed (id, account) VALUES (1, '2026-01-01'), (2, 'infinity'), (3, '-infinity')")
    ring = Ring()
    for number in range(4, 8):
        app.burst(app.changed, limit=1, choice=Choice(ring=ring))
        app.execute(f"INSERT INTO changed (id, account) VALUES ({number}, '2026-01-01')")
    assert app.sent == [3, 1, 2, 4]
    app.close()


def test_flushmany_sends_all_in_order(orders: Orders) -> None:
    orders.put(*((number, f"k{number % 7}") for number in range(500)))
    assert orders.flush() == 500
    for key in range(7):
        own = [one for one in orders.sent if one % 7 == key]
        assert own == sorted(own)


def test_flushmany_goes_on_with_other_keys(orders: Orders) -> None:
    orders.put(*((number, f"k{number % 7}") for number in range(300)))
    orders.bad = {14}
    with pytest.raises(PartialDeliveryError):
        orders.flush()
    assert orders.left(orders.changed) == [number for number in range(14, 300) if number % 7 == 0]


def test_the_key_and_the_position_cannot_be_changed(orders: Orders) -> None:
    orders.put((1, "a"))
    for change in ("account = 'b'", "signalbus_position = 7"):
        with pytest.raises(sa.exc.IntegrityError, match="do not change"):
            orders.execute(f"UPDATE changed SET {change}")
    orders.execute("UPDATE changed SET account = 'a'")


def test_overlapping_writers_and_several_relays_never_invert_a_key(orders: Orders) -> None:
    """Writers hold their transactions open in turn; three workers send meanwhile, and one message in ten is refused."""
    chance, lock = random.Random(7), threading.Lock()
    numbers, written, arrived, failed_once = itertools.count(1), [], [], set()
    writing = threading.Event()

    def arrive(cls: Any, instances: list[Any]) -> None:
        failed = []
        for one in instances:
            with lock:
                if one.id not in failed_once and chance.random() < 0.1:
                    failed_once.add(one.id)
                    failed.append((one, REFUSED))
                else:
                    arrived.append((one.account, one.signalbus_position, one.id))
        if failed:
            bad = {id(one) for one, _ in failed}
            raise PartialDeliveryError([one for one in instances if id(one) not in bad], failed)

    orders.changed.send_signalbus_messages = classmethod(arrive)
    orders.changed.send_signalbus_message = lambda self: arrive(type(self), [self])
    spec = orders.spec(orders.changed)
    ring = Ring()

    def write(seed: int) -> None:
        own = random.Random(seed)
        for _ in range(25):
            with orders.connection() as connection:
                for account in sorted(own.choices("abcdef", k=own.randint(1, 4))):
                    with lock:
                        number = next(numbers)
                    connection.execute(sa.insert(orders.changed), [{"id": -number, "account": account}])
                # Others write and commit meanwhile.
                connection.execute(sa.text("SELECT pg_sleep(:seconds)"), {"seconds": own.random() * 0.03})
                if own.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    with lock:
                        written.append(number)

    def relay() -> None:
        while not writing.is_set() or orders.left(orders.changed):
            with orders.app.app_context():
                send_burst(orders.db.session(), spec, limit=chance.choice((1, 5, 50)), choice=Choice(ring=ring))

    with ThreadPoolExecutor(7) as threads:
        relays = [threads.submit(relay) for _ in range(3)]
        for one in [threads.submit(write, seed) for seed in range(4)]:
            one.result()
        writing.set()
        for one in relays:
            one.result()
    for account in "abcdef":
        positions = [position for key, position, _ in arrived if key == account]
        assert positions == sorted(set(positions))
    assert {-number for number in written} <= {number for *_, number in arrived}
    assert failed_once


class Numbered(Orders):
    """Keys of two columns, of which one may be NULL."""

    def __init__(self, url: str) -> None:
        columns = {"tenant": sa.Column(sa.Numeric, nullable=True), "account": sa.Column(sa.Uuid(as_uuid=False))}
        super().__init__(url, **columns, signalbus_order_by=("tenant", "account"))

    def put(self, *signals: Any) -> None:
        rows = [{"id": number, "tenant": tenant, "account": str(UUID(int=one))} for number, tenant, one in signals]
        with self.app.app_context():
            self.db.session.execute(sa.insert(self.changed), rows)
            self.db.session.commit()


def test_keys_of_several_columns_are_ordered_and_each_null_is_alone(database_url: str) -> None:
    app = Numbered(database_url)
    # 1 and 1.0 are one key.
    app.put((1, 1, 7), (2, "1.0", 7), (3, 1, 8), (4, None, 7), (5, None, 7))
    ring = Ring()
    while app.burst(app.changed, limit=4, choice=Choice(ring=ring)).selected:
        pass
    assert sorted(app.sent) == [1, 2, 3, 4, 5]
    assert app.sent.index(1) < app.sent.index(2)
    with app.connection() as one, app.connection() as other:
        insert = sa.insert(app.changed)
        one.execute(insert, [{"id": 6, "tenant": 2, "account": str(UUID(int=1))}])
        other.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            other.execute(insert, [{"id": 7, "tenant": "2.00", "account": str(UUID(int=1))}])
    app.close()


def test_a_blocked_key_with_many_signals_costs_the_others_one_lookup(orders: Orders) -> None:
    orders.execute("INSERT INTO changed (id, account) SELECT n, 'hot' FROM generate_series(1, 100000) n")
    orders.put(*((200_000 + number, f"k{number}") for number in range(50)))
    orders.execute("ANALYZE changed")
    read = "SELECT pg_stat_get_xact_tuples_fetched(oid) + pg_stat_get_xact_tuples_returned(oid) FROM pg_class"
    with orders.connection() as connection:
        for name in ("enable_sort", "enable_bitmapscan", "jit"):
            connection.execute(sa.text(f"SET LOCAL {name} = off"))
        choice = Choice(exclude=((1,),))
        places, _ = heads.take_in_order(connection, orders.spec(orders.changed), 100, choice, 1 << 24)
        visited = connection.scalar(sa.text(f"{read} WHERE relname = 'changed'"))
        by_index = connection.scalar(sa.text(f"{read} WHERE relname = 'changed_signalbus_order'"))
    assert len(places) == 50
    assert 50 <= visited + by_index < 1_000


def test_a_parked_signal_blocks_or_is_skipped_as_its_model_says(database_url: str) -> None:
    for on_parked, left in (("block", [1, 2]), ("skip", [1])):
        app = Orders(database_url, __tablename__=f"changed_{on_parked}", signalbus_on_parked=on_parked)
        app.put((1, "a"), (2, "a"), (3, "b"))
        with app.app.app_context():
            now = sa.func.now()
            table = app.db.metadata.tables["signalbus_parked"]
            row = {"table_name": f"changed_{on_parked}", "key": "1", "model": "Changed", "attempts": 1}
            late = {"first_failed_at": now, "last_failed_at": now, "error_class": "invalid", "error_text": "bad"}
            app.db.session.execute(sa.insert(table).values(**row, **late))
            app.db.session.commit()
        app.flush()
        assert app.left(app.changed) == left
        app.close()


def test_a_row_that_cannot_be_loaded_ends_the_run_of_its_key(database_url: str) -> None:
    app = Orders(database_url, much=sa.Column(sa.Integer))
    app.execute("ALTER TABLE changed ALTER COLUMN much TYPE text")
    app.changed.__table__.c.much.type = Whole()
    app.execute("INSERT INTO changed (id, account, much) VALUES (1, 'a', '1'), (2, 'a', 'x'), (3, 'a', '3')")
    result = app.burst(app.changed)
    assert (app.sent, [one.key for one in result.failed]) == ([1], [(2,)])
    app.close()


class Whole(sa.TypeDecorator[int]):
    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return None if value is None else int(value)


def test_order_of_inserts_on_sqlite(tmp_path: Path) -> None:
    app = Orders(f"sqlite:///{tmp_path}/outbox.db")
    app.put((5, "a"), (2, "a"), (9, "b"), (3, None))
    app.bad = {5}
    with pytest.raises(PartialDeliveryError):
        app.flush()
    assert app.left(app.changed) == [2, 5]
    app.bad = set()
    app.flush()
    assert app.sent[-2:] == [5, 2]
    app.close()


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"signalbus_order_by": "nope"}, "names 'nope', which is no column"),
        ({"signalbus_order_by": ()}, "must be the name of a column"),
        ({"signalbus_order_by": ("account", "account")}, "names a column twice"),
        ({"signalbus_order_by": "signalbus_position"}, "which is the order itself"),
        ({"signalbus_order_by": "account", "account": sa.Column(sa.JSON)}, "of type JSON"),
        ({"signalbus_on_parked": "wait"}, "must be 'block'"),
        ({"signalbus_order_by": None}, "names no key"),
        ({"signalbus_send_after": sa.Column(sa.DateTime(timezone=True))}, "both an order and a schedule"),
    ],
)
def test_an_order_that_cannot_be_is_refused(members: dict[str, Any], text: str) -> None:
    app = OutboxApp("sqlite://")
    own = {
        "account": sa.Column(sa.Text),
        "signalbus_order_by": "account",
        "id": sa.Column(sa.Integer, primary_key=True),
    }
    send = {"send_signalbus_message": lambda self: None}
    model = app._add("Changed", (OrderedSignal, app.db.Model), {**own, **send, **members})
    with pytest.raises(SignalModelError, match=text):
        app.spec(model)
    app.close()


def test_a_scheduled_signal_writes_an_ordered_one_when_it_is_due(database_url: str) -> None:
    class Later(Orders):
        def create(self) -> None:
            def send(signal: Any) -> None:
                self.db.session.add(self.changed(id=signal.id, account="a"))

            members = {"id": sa.Column(sa.BigInteger, primary_key=True), "send_signalbus_message": send}
            self.due = self._add("Due", (ScheduledSignal, self.db.Model), members)
            super().create()

    app = Later(database_url)
    app.put((2, "a"))
    app.execute("INSERT INTO due (id, signalbus_send_after) VALUES (1, now()), (3, now() + interval '1 hour')")
    assert app.burst(app.due).sent == 1
    app.burst(app.changed)
    assert (app.sent, app.left(app.due)) == ([2, 1], [3])
    app.close()


def test_an_excluded_signal_holds_back_its_key_unless_it_is_passed_over(orders: Orders) -> None:
    orders.put((1, "a"), (2, "a"), (3, "b"))
    excluded = Choice(exclude=((1,),))
    assert orders.burst(orders.changed, choice=excluded).sent == 1
    assert orders.burst(orders.changed, choice=replace(excluded, passed_over=((1,),))).sent == 1
    assert orders.sent == [3, 2]


def test_flushmany_tells_once_of_a_trigger_that_is_missing(orders: Orders, caplog: pytest.LogCaptureFixture) -> None:
    orders.execute("DROP TRIGGER signalbus_position ON changed")
    for number in (1, 2):
        orders.put((number, "a"))
        assert orders.flush() == 1
    [told] = [one for one in caplog.records if getattr(one, "action", None) == "order_unfit"]
    assert "Changed: its signals are sent in the order in which they were inserted" in told.message
    assert "signalbus-relay ddl order changed --by account" in told.message


def test_only_signals_that_hold_back_others_are_counted_behind(orders: Orders) -> None:
    orders.put(*((number, "a") for number in range(1, 9)), (20, "b"), (21, "b"))
    orders.execute(
        "INSERT INTO signalbus_parked (table_name, key, model, attempts, first_failed_at, last_failed_at, error_class,"
        " error_text) SELECT 'changed', id::text, 'Changed', 9, now(), now() - id * interval '1 minute', 'returned', ''"
        " FROM changed WHERE id NOT IN (8, 21)"
    )
    statements: list[str] = []
    with orders.connection() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
        named = blocked_keys(connection, orders.spec(orders.changed), most=5)
    assert {(one.head, one.behind) for one in named} == {("1", 7), ("20", 1)}
    assert sum("count(" in one for one in statements if "signalbus_this" in one) == len(named)
