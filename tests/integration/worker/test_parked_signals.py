"""Signals that are set aside in the table ``signalbus_parked``, against a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import TableRetryStore
from signalbus_core import BurstError, Outcome, OutcomeKind, SignalBusMixin, parked_table_sql
from signalbus_core.lowlevel import (
    BurstLimits,
    BurstResult,
    Choice,
    FailedSignal,
    LeaveOut,
    Proved,
    SignalSpec,
    delete_sent,
    lacks_columns,
    locate,
    parked,
    parked_table_of,
    parked_table_problem,
    retries,
    send_burst,
)
from signalbus_core.sql.backlog.query import find_work

RAISED = Outcome(OutcomeKind.UNKNOWN, "ValueError: bad", cause="error")
REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
INVALID = Outcome(OutcomeKind.INVALID, "routing key too long")
KEPT = Outcome(OutcomeKind.ACKED, "a foreign key", cause="undeleted")


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Outbox:
    """An application with one signal model, whose send method notes what it is given."""

    def __init__(self, database_url: str, key_columns: Callable[[Any], dict[str, Any]] | None = None) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        self.sent: list[tuple[Any, ...]] = []
        outbox = self
        columns = (key_columns or (lambda db: {"id": db.Column(db.BigInteger, primary_key=True, autoincrement=False)}))(
            db
        )

        def send(signal: Any) -> None:
            outbox.sent.append(tuple(getattr(signal, name) for name in columns))

        members = {
            "__tablename__": "order",
            **columns,
            "note": db.Column(db.Text),
            "signalbus_burst_count": 10,
            "send_signalbus_message": send,
        }
        self.model: Any = type("Order", (db.Model,), members)
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
            self.spec: SignalSpec = db.signalbus.specs()[0]

    def write(self, *keys: Any) -> None:
        names = [column.name for column in self.spec.primary_key]
        with self.app.app_context():
            for key in keys:
                parts = key if isinstance(key, tuple) else (key,)
                self.db.session.add(self.model(**dict(zip(names, parts, strict=True)), note="n"))
            self.db.session.commit()

    def retry_store(self, park_after: int = 3, wait: float = 0.0) -> TableRetryStore:
        rules = RetryPolicy(park_after, uniform=lambda _low, _high: wait)
        rules._refused.shortest_seconds = rules._fault.shortest_seconds = wait
        return TableRetryStore(self.spec, self.engine, rules, BurstLimits())

    def execute(self, *statements: str) -> None:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def execute_one(self, statement: str) -> Any:
        with self.engine.connect() as connection:
            return connection.scalar(sa.text(statement))

    def burst(self, choice: Choice, **arguments: Any) -> int:
        with self.app.app_context():
            return send_burst(self.db.session(), self.spec, choice=choice, **arguments).sent

    def noted(self) -> list[parked.FailureRecord]:
        with self.engine.connect() as connection:
            return parked.list_failed(connection, self.spec)

    def left(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.text('SELECT count(*) FROM "order"')) or 0)

    def work(self) -> tuple[bool, bool]:
        with self.engine.connect() as connection:
            [work] = find_work(connection, [self.spec], {"Order": Choice(LeaveOut.FAILED)})
        return work.pending, work.due


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


def failed(key: Any, outcome: Outcome = REFUSED) -> FailedSignal:
    return FailedSignal(key if isinstance(key, tuple) else (key,), outcome)


def test_table_is_in_metadata_beside_models_and_nowhere_else(database_url: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    app.config["SQLALCHEMY_BINDS"] = {"other": database_url, "third": database_url}
    db = Database(app)

    class Plain(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)

    class Signal(db.Model):  # type: ignore[name-defined,misc]
        __bind_key__ = "other"
        id = db.Column(db.Integer, primary_key=True)

        def send_signalbus_message(self) -> None: ...

    tables = {bind: sorted(metadata.tables) for bind, metadata in db.metadatas.items()}
    own = ["signalbus_parked", "signalbus_paused", "signalbus_relays"]
    assert tables == {None: ["plain"], "other": ["signal", *own], "third": []}
    assert parked_table_of(db.signalbus.specs()[0]) is db.metadatas["other"].tables["signalbus_parked"]


KINDS: dict[str, tuple[Callable[[Any], dict[str, Any]], list[Any]]] = {
    "number": (lambda db: {"a": db.Column(db.BigInteger, primary_key=True, autoincrement=False)}, [1, 2, 3]),
    "text": (lambda db: {"a": db.Column(db.Text, primary_key=True)}, ["a", "it's", 'b"\\']),
    "padded": (lambda db: {"a": db.Column(db.CHAR(8), primary_key=True)}, ["a       ", "b       ", "c       "]),
    "uuid": (lambda db: {"a": db.Column(db.Uuid, primary_key=True)}, [uuid.UUID(int=n) for n in (1, 2, 3)]),
    "bytes": (lambda db: {"a": db.Column(db.LargeBinary, primary_key=True)}, [b"\x00a", b"\xff", b"\\x"]),
    "exact": (
        lambda db: {"a": db.Column(db.Numeric, primary_key=True, autoincrement=False)},
        [Decimal(1), Decimal("2.50"), Decimal(3)],
    ),
    "moment": (
        lambda db: {"a": db.Column(db.DateTime(timezone=True), primary_key=True)},
        [datetime(2026, 1, day, 1, 2, 3, 456789, tzinfo=timezone.utc) for day in (1, 2, 3)],
    ),
    "several": (
        lambda db: {
            "a": db.Column(db.Text, primary_key=True),
            "b": db.Column(db.Date, primary_key=True),
            "c": db.Column(db.Integer, primary_key=True, autoincrement=False),
        },
        [("x", date(2026, 1, 1), 1), ('x", "y', date(2026, 1, 1), 1), ("x", date(2026, 1, 2), 1)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_kind_of_key_a_signal_is_left_out_tried_again_and_forgotten(database_url: str, kind: str) -> None:
    columns, keys = KINDS[kind]
    outbox = Outbox(database_url, columns)
    outbox.write(*keys)
    with outbox.app.app_context():
        bad = tuple(
            outbox.db.session.execute(sa.select(*outbox.spec.primary_key).order_by(*outbox.spec.primary_key)).all()[1]
        )
    retry_store = outbox.retry_store()

    retry_store.put([failed(bad)])

    assert outbox.burst(retry_store.choice([])) == 2
    assert bad not in outbox.sent
    due = retry_store.take_due(10).keys
    assert due == (bad,)
    assert outbox.burst(retry_store.retry(due)) == 1
    assert outbox.sent[-1] == bad
    assert outbox.noted() == []
    assert outbox.left() == 0
    outbox.engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_kind_of_key_what_was_sent_is_found_again_by_it(database_url: str, kind: str) -> None:
    columns, keys = KINDS[kind]
    outbox = Outbox(database_url, columns)
    outbox.write(*keys)
    outbox.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept'; END $$",
        'CREATE TRIGGER keep BEFORE DELETE ON "order" FOR EACH ROW EXECUTE FUNCTION keep()',
    )
    retry_store = outbox.retry_store()
    assert outbox.burst(retry_store.choice([])) == 0
    outbox.execute("UPDATE signalbus_parked SET next_try_at = now()")
    due = retry_store.take_due(10)
    proved = [Proved(one.key, one.version) for one in due.signals]
    assert len(delete_sent(outbox.engine, outbox.spec, proved).undeleted) == 3
    outbox.execute('DROP TRIGGER keep ON "order"')
    assert delete_sent(outbox.engine, outbox.spec, proved).sent == 3
    outbox.engine.dispose()


def test_a_failure_is_noted_with_its_times_and_its_reason(outbox: Outbox) -> None:
    outbox.write(7)
    retry_store = outbox.retry_store(wait=100.0)
    retry_store.put([failed(7)])
    [first] = outbox.noted()
    retry_store.put([failed(7, RAISED)])
    [second] = outbox.noted()
    assert (first.model, first.key, first.attempts) == ("Order", "7", 1)
    assert (first.error_class, first.error_text) == ("returned", "312 NO_ROUTE")
    assert first.next_try_at is not None
    assert 99 < (first.next_try_at - first.last_failed_at).total_seconds() < 101
    assert (second.attempts, second.first_failed_at, second.error_class) == (1, first.first_failed_at, "error")
    assert second.last_failed_at > first.last_failed_at


def test_attempts_at_a_refusing_destination_do_not_bring_a_signal_nearer_to_being_parked(outbox: Outbox) -> None:
    outbox.write(7)
    retry_store = outbox.retry_store(park_after=2)
    for outcome in (REFUSED, REFUSED, RAISED):
        assert retry_store.put([failed(7, outcome)], is_retry=True) == []
    assert retry_store.put([failed(7, RAISED)], is_retry=True) == [(7,)]


def test_a_signal_waits_until_its_time_has_come(outbox: Outbox) -> None:
    outbox.write(7)
    outbox.retry_store(wait=100.0).put([failed(7)])
    assert outbox.work() == (False, False)
    assert outbox.retry_store().take_due(10).keys == ()
    with outbox.engine.begin() as connection:
        assert parked.try_again(connection, outbox.spec, "7") == 1
    assert outbox.work() == (False, True)
    assert outbox.retry_store().take_due(10).keys == ((7,),)


def test_parked_signal_is_left_alone_until_person_says_otherwise(outbox: Outbox) -> None:
    outbox.write(7)
    retry_store = outbox.retry_store(park_after=2)
    assert retry_store.put([failed(7, RAISED)]) == []
    assert retry_store.put([failed(7, RAISED)], is_retry=True) == [(7,)]
    assert outbox.noted()[0].is_parked
    assert outbox.work() == (False, False)
    assert retry_store.count() == (0, 1)
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 0
    with outbox.engine.begin() as connection:
        assert parked.try_again(connection, outbox.spec) == 1
    assert retry_store.take_due(10).keys == ((7,),)


def test_flushmany_tries_what_waits_and_forgets_what_it_sent(outbox: Outbox) -> None:
    outbox.write(1, 2)
    outbox.retry_store(wait=100.0).put([failed(2)])
    with outbox.app.app_context():
        assert outbox.db.signalbus.flushmany() == 2
    assert outbox.noted() == []


def test_a_signal_that_is_gone_meanwhile_is_not_noted(outbox: Outbox) -> None:
    outbox.write(1)
    outbox.retry_store().put([failed(1), failed(2)])
    assert [one.key for one in outbox.noted()] == ["1"]


def test_what_is_noted_of_signals_that_are_gone_is_forgotten(outbox: Outbox) -> None:
    outbox.write(1, 2)
    outbox.retry_store().put([failed(1), failed(2)])
    with outbox.engine.begin() as connection:
        connection.execute(sa.text('DELETE FROM "order" WHERE id = 1'))
    outbox.retry_store().clean_up()
    assert [one.key for one in outbox.noted()] == ["2"]


def test_a_discarded_signal_is_gone_with_what_was_noted_and_its_columns_are_returned(outbox: Outbox) -> None:
    outbox.write(1, 2)
    outbox.retry_store().put([failed(1)])
    with outbox.engine.begin() as connection:
        assert parked.discard(connection, outbox.spec, "1") == {"id": 1, "note": "n"}
        assert parked.discard(connection, outbox.spec, "2") is None
    assert outbox.noted() == []
    assert outbox.left() == 1


@pytest.fixture(params=["now", "before"])
def made(outbox: Outbox, request: pytest.FixtureRequest) -> Outbox:
    """A table made by this version, or by an earlier one."""
    if request.param == "before":
        outbox.execute("ALTER TABLE signalbus_parked DROP COLUMN row_version, DROP COLUMN destination")
    return outbox


def test_bursts_keep_order_of_key_and_read_set_aside_keys_once(made: Outbox) -> None:
    made.execute(
        'INSERT INTO "order" (id) SELECT generate_series(1, 20000)',
        "INSERT INTO signalbus_parked SELECT 'order', n::text, 'Order', 1, now(), now(), now(), 'returned', '' "
        "FROM generate_series(1, 5000) n",
    )
    with made.engine.begin() as connection:
        statement = parked.leaving_out(made.spec, LeaveOut.FAILED, sa.select(made.model.id))
        compiled = statement.order_by(made.model.id).limit(100).with_for_update(skip_locked=True)
        text = str(compiled.compile(connection, compile_kwargs={"literal_binds": True}))
        plan = "\n".join(connection.scalars(sa.text("EXPLAIN " + text)))
    assert "Index Scan" in plan
    assert plan.count("hashed SubPlan") == 2
    assert "Sort" not in plan
    assert "Join" not in plan
    assert made.burst(made.retry_store().choice([]), limit=10) == 10
    assert made.sent[0] == (5001,)


def test_whichever_version_made_the_table_signals_wait_are_tried_shown_and_parked(made: Outbox) -> None:
    made.write(1, 2, 3)
    retry_store = made.retry_store(park_after=2)
    retry_store.put([failed(1, RAISED), failed(2, REFUSED)])
    assert [(one.key, one.attempts) for one in made.noted()] == [("1", 1), ("2", 1)]
    due = retry_store.take_due(10)
    assert due.keys == ((1,),)
    assert retry_store.put([failed(1, RAISED)], is_retry=True) == [(1,)]
    retry_store.tried(due, BurstResult(selected=1, failed=(failed(1, RAISED),), keys=due.keys), [(1,)])
    retry_store.clean_up()
    assert retry_store.count() == (1, 1)
    with made.app.app_context():
        assert made.db.signalbus.flushmany() == 2
    assert sorted(made.sent) == [(2,), (3,)]


def test_ddl_adds_what_earlier_table_lacks_and_keeps_notes(made: Outbox) -> None:
    made.write(1)
    made.retry_store(wait=100.0).put([failed(1)])
    made.execute(*parked_table_sql().removesuffix(";").split(";"))
    made.execute(*parked_table_sql().removesuffix(";").split(";"))
    with made.engine.connect() as connection:
        assert not lacks_columns(connection, parked_table_of(made.spec))
    assert made.burst(made.retry_store().choice([])) == 0
    made.retry_store().clean_up()
    with made.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM signalbus_parked WHERE row_version IS NULL")) == 0
    assert made.burst(made.retry_store().choice([])) == 0


@pytest.mark.parametrize(
    "change",
    ['DELETE FROM "order"; INSERT INTO "order" VALUES (7)', "UPDATE \"order\" SET note = 'mended'"],
    ids=["a new signal under its key", "mended by a person"],
)
def test_a_note_is_about_the_row_that_failed_and_no_other(outbox: Outbox, change: str) -> None:
    outbox.write(7)
    retry_store = outbox.retry_store(park_after=1)
    assert retry_store.put([failed(7, INVALID)]) == [(7,)]
    outbox.execute('VACUUM (FREEZE) "order"')
    assert outbox.burst(retry_store.choice([])) == 0
    assert outbox.work() == (False, False)
    outbox.execute(change)
    assert outbox.work() == (True, False)
    assert outbox.burst(retry_store.choice([]), limit=5) == 1


def test_a_new_signal_under_the_key_of_a_failed_one_begins_anew(outbox: Outbox) -> None:
    outbox.write(7)
    retry_store = outbox.retry_store(park_after=2)
    retry_store.put([failed(7, RAISED)])
    outbox.execute('UPDATE "order" SET note = NULL')
    assert retry_store.put([failed(7, RAISED)]) == []
    assert retry_store.put([failed(7, RAISED)], is_retry=True) == [(7,)]


def test_what_is_noted_of_row_that_was_written_anew_is_forgotten(outbox: Outbox) -> None:
    outbox.write(1, 2)
    outbox.retry_store(park_after=1).put([failed(1, INVALID), failed(2, INVALID)])
    outbox.execute('UPDATE "order" SET note = NULL WHERE id = 1')
    outbox.retry_store().clean_up()
    assert [one.key for one in outbox.noted()] == ["2"]


@pytest.mark.parametrize("outcome", [REFUSED, RAISED])
def test_a_due_signal_that_is_locked_holds_up_no_other(outbox: Outbox, outcome: Outcome) -> None:
    outbox.write(1, 2, 3, 4)
    retry_store = outbox.retry_store()
    retry_store.put([failed(key, outcome) for key in (1, 2, 3, 4)])
    outbox.execute("UPDATE signalbus_parked SET next_try_at = next_try_at - (9 - key::int) * interval '1 s'")
    with outbox.engine.begin() as other, outbox.engine.begin() as another:
        other.execute(sa.text('SELECT FROM "order" WHERE id = 1 FOR UPDATE'))
        another.execute(sa.text("SELECT FROM signalbus_parked WHERE key = '2' FOR UPDATE"))
        for _ in range(3):
            if due := retry_store.take_due(1).keys:
                outbox.burst(retry_store.retry(due))
    assert sorted(outbox.sent) == [(3,), (4,)]


def refused(key: int, destination: str) -> FailedSignal:
    return FailedSignal((key,), Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", "returned", destination=destination))


def test_one_signal_tries_for_all_of_its_destination(outbox: Outbox) -> None:
    outbox.write(*range(1, 21))
    retry_store = outbox.retry_store()
    retry_store.put([refused(key, "a" if key % 2 else "b") for key in range(1, 21)])

    due = retry_store.take_due(100)
    assert sorted(key % 2 for [key] in due.keys) == [0, 1]
    odd, even = sorted(due.keys, key=lambda key: key[0] % 2 == 0)
    outbox.retry_store(wait=100.0).put([refused(odd[0], "a")], is_retry=True)
    outbox.burst(retry_store.retry((even,)))
    retry_store.tried(due, BurstResult(selected=2, sent=1, failed=(refused(odd[0], "a"),), keys=due.keys), [odd])

    with outbox.engine.connect() as connection:
        waits = sa.text("SELECT destination, count(*), min(next_try_at) > now() FROM signalbus_parked GROUP BY 1")
        assert sorted(connection.execute(waits).all()) == [("a", 10, True), ("b", 9, False)]
    due = retry_store.take_due(100)
    assert {key % 2 for [key] in due.keys} == {0}
    assert outbox.burst(retry_store.retry(due.keys), limit=100) == 9


def test_of_what_was_sent_only_the_delete_is_tried(outbox: Outbox) -> None:
    outbox.write(1, 2)
    retry_store = outbox.retry_store(park_after=2)
    version = outbox.execute_one('SELECT DISTINCT xmin::text FROM "order"')
    retry_store.put([FailedSignal((key,), KEPT, version) for key in (1, 2)])
    due = retry_store.take_due(10)
    assert due.is_delete
    assert [(one.key, one.version) for one in due.signals] == [
        (key, outbox.execute_one(f'SELECT xmin::text FROM "order" WHERE id = {key[0]}')) for key in ((1,), (2,))
    ]
    outbox.execute('DELETE FROM "order" WHERE id = 2')
    assert retry_store.put([failed(1, KEPT)], is_retry=True) == [(1,)]
    retry_store.tried(due, BurstResult(selected=2, sent=1, undeleted=(failed(1, KEPT),), keys=due.keys), [(1,)])
    [left] = outbox.noted()
    assert (left.key, left.is_parked, left.why) == ("1", True, "was sent; cannot be deleted: a foreign key")


def test_without_privileges_on_the_table_it_is_said_which(outbox: Outbox) -> None:
    table = parked_table_of(outbox.spec)
    with outbox.engine.begin() as connection:
        role = f"role_{uuid.uuid4().hex[:8]}"
        connection.execute(sa.text(f"CREATE ROLE {role}"))
        connection.execute(sa.text(f"GRANT SELECT, INSERT ON signalbus_parked TO {role}"))
        connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
        problem = parked_table_problem(connection, table)
        connection.execute(sa.text("RESET ROLE"))
        connection.execute(sa.text(f"DROP OWNED BY {role}"))
        connection.execute(sa.text(f"DROP ROLE {role}"))
        assert parked_table_problem(connection, table) is None
        connection.execute(sa.text("DROP TABLE signalbus_parked"))
        assert parked_table_problem(connection, table) == "does not exist"
    assert problem == "is closed to this login, which lacks UPDATE, DELETE"


def test_in_earlier_table_row_is_not_taken_for_one_that_was_sent(outbox: Outbox) -> None:
    outbox.execute("ALTER TABLE signalbus_parked DROP COLUMN row_version, DROP COLUMN destination")
    outbox.write(1)
    outbox.execute('CREATE TABLE child (of bigint REFERENCES "order")', "INSERT INTO child VALUES (1)")
    assert outbox.burst(Choice(LeaveOut.FAILED)) == 0
    assert outbox.noted()[0].was_sent
    outbox.execute("DELETE FROM child", 'DELETE FROM "order"', 'INSERT INTO "order" VALUES (1)')
    for is_migrated in (False, True):
        if is_migrated:
            outbox.execute(*parked_table_sql().removesuffix(";").split(";"))
        with outbox.app.app_context(), pytest.raises(BurstError, match=r"may be a new signal.*parked discard"):
            outbox.db.signalbus.flushmany()
        outbox.execute("UPDATE signalbus_parked SET next_try_at = now()")
        due = outbox.retry_store().take_due(10)
        result = delete_sent(outbox.engine, outbox.spec, [Proved(due.keys[0], due.signals[0].version)])
        outbox.retry_store().put(result.undeleted, is_retry=True)
        outbox.retry_store().tried(due, result)
        outbox.retry_store().clean_up()
        assert outbox.left() == 1
        assert outbox.noted()[0].was_sent


def test_a_discarded_key_takes_no_signal_that_was_written_anew(outbox: Outbox) -> None:
    outbox.write(1)
    outbox.retry_store(park_after=1).put([failed(1, INVALID)])
    outbox.execute("UPDATE \"order\" SET note = 'mended'")
    with outbox.engine.begin() as connection:
        assert parked.discard(connection, outbox.spec, "1") is None
    assert outbox.left() == 1


def test_row_written_anew_since_it_was_sent_is_not_noted_as_sent(outbox: Outbox) -> None:
    outbox.write(1)
    outbox.retry_store().put([FailedSignal((1,), KEPT, version="1")])
    assert outbox.noted() == []


def test_in_earlier_table_each_signal_waits_for_destination_by(outbox: Outbox) -> None:
    outbox.execute("ALTER TABLE signalbus_parked DROP COLUMN row_version, DROP COLUMN destination")
    outbox.write(1, 2)
    retry_store = outbox.retry_store()
    retry_store.put([refused(1, "dead"), refused(2, "dead")])
    retry_store.put([refused(1, "dead")], is_retry=True)
    assert sorted((one.key, one.attempts) for one in outbox.noted()) == [("1", 2), ("2", 1)]


def test_a_note_that_is_locked_keeps_no_other_of_its_destination(outbox: Outbox) -> None:
    outbox.write(1, 2, 3)
    retry_store = outbox.retry_store(wait=100.0)
    retry_store.put([refused(key, "dead") for key in (1, 2, 3)])
    outbox.execute("UPDATE signalbus_parked SET next_try_at = now()")
    with outbox.engine.begin() as other:
        other.execute(sa.text("SELECT FROM signalbus_parked WHERE key = '2' FOR UPDATE"))
        retry_store.put([refused(1, "dead")], is_retry=True)
        assert retry_store.due_keys(10) == []
        with outbox.engine.begin() as connection:
            assert retries.release_destination(connection, outbox.spec, "dead") == 2


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("bigint", (42,)),
        ("text", ("a b",)),
        ("timestamptz", (datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2))),)),
        ("composite", (7, "a,b")),
    ],
)
def test_key_is_shown_as_commands_take_it(database_url: str, column: str, key: tuple[Any, ...]) -> None:
    def columns(db: Any) -> dict[str, Any]:
        kinds = {"bigint": db.BigInteger, "text": db.Text, "timestamptz": db.DateTime(timezone=True)}
        if column == "composite":
            return {"a": db.Column(db.BigInteger, primary_key=True), "b": db.Column(db.Text, primary_key=True)}
        return {"id": db.Column(kinds[column], primary_key=True)}

    outbox = Outbox(database_url, columns)
    outbox.write(key)
    outbox.retry_store(park_after=1).put([FailedSignal(key, RAISED)])
    [noted] = outbox.noted()
    with outbox.engine.connect() as connection:
        assert locate.key_texts(connection, outbox.spec, [key]) == {key: noted.key}
    outbox.engine.dispose()
