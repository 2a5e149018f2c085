"""Signals that were sent and cannot be deleted: each is sent once, told with the reason, and holds up no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import TableRetryStore
from signalbus_core import BurstError, Outcome, OutcomeKind, PartialDeliveryError, SignalBusMixin
from signalbus_core.burst import flush
from signalbus_core.lowlevel import (
    BurstLimits,
    BurstResult,
    Choice,
    FailedSignal,
    LeaveOut,
    Proved,
    SignalSpec,
    delete_sent,
    own_session,
    parked,
    send_burst,
)
from tests.support.outbox_app import OutboxApp

NOTED = Choice(LeaveOut.FAILED)

#: So that a delete that waits is ended soon.
SHORT = BurstLimits(statement_timeout_seconds=1.5)

KEEPING_SEVEN = """
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF OLD.id = 7 THEN {what} END IF; RETURN OLD;
    END $$;
    CREATE TRIGGER keep BEFORE DELETE ON "order" FOR EACH ROW EXECUTE FUNCTION keep()
"""
CHILD = 'CREATE TABLE child (order_id int REFERENCES "order" (id) {how}); INSERT INTO child VALUES (7)'
MARKING = "UPDATE \"order\" SET note = 'deleted' WHERE id = 7"

#: Ways in which the database keeps the signal with key 7, and no other.
CAUSES = {
    "foreign key": CHILD.format(how=""),
    "deferred foreign key": CHILD.format(how="DEFERRABLE INITIALLY DEFERRED"),
    "trigger that suppresses": KEEPING_SEVEN.format(what="RETURN NULL;"),
    "trigger that raises": KEEPING_SEVEN.format(what="RAISE EXCEPTION 'not allowed';"),
    "trigger that waits": KEEPING_SEVEN.format(what="PERFORM pg_sleep(60);"),
    "trigger that marks": KEEPING_SEVEN.format(what=f"{MARKING}; RETURN NULL;"),
    "rule that marks": f'CREATE RULE mark AS ON DELETE TO "order" WHERE OLD.id = 7 DO INSTEAD {MARKING}',
}


class Folded(sa.TypeDecorator[str]):
    """A text that is read in small letters."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return value.strip().lower()


class OneWay(sa.TypeDecorator[str]):
    """A text that is read in small letters, and written in large ones only."""

    impl = sa.Text
    cache_ok = True

    def process_result_value(self, value: Any, _dialect: Any) -> Any:
        return value.lower()

    def process_bind_param(self, value: Any, _dialect: Any) -> Any:
        if value != value.upper():
            raise ValueError("in small letters")
        return value


class Outbox:
    """An application whose sender counts what it sends."""

    def __init__(self, database_url: str) -> None:
        class Database(SignalBusMixin, SQLAlchemy):
            pass

        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        self.sent: Counter[Any] = Counter()
        self.sender: Callable[[list[Any]], object] = lambda signals: None
        outbox = self

        class Sent(db.Model):  # type: ignore[name-defined,misc]
            __abstract__ = True
            signalbus_burst_count = 50

            def send_signalbus_message(self) -> None:
                type(self).send_signalbus_messages([self])

            @classmethod
            def send_signalbus_messages(cls, signals: list[Any]) -> None:
                outbox.sent.update(signal.id for signal in signals)
                outbox.sender(signals)

        class Order(Sent):
            id = db.Column(db.Integer, primary_key=True)
            note = db.Column(db.Text)

        self.order: Any = Order
        self._base: Any = Sent
        with self.app.app_context():
            db.create_all()
            self.engine = db.engine
        self.bus = db.signalbus

    @cached_property
    def lossy(self) -> dict[str, Any]:
        """Models whose keys are not read as they are written, and one with an integer; few tests have them."""
        db, base = self.db, self._base

        class Price(base):  # type: ignore[misc]
            id = db.Column(db.Numeric(asdecimal=False), primary_key=True, autoincrement=False)

        class Piece(base):  # type: ignore[misc]
            id = db.Column(db.Integer, primary_key=True, autoincrement=False)

        class Measure(base):  # type: ignore[misc]
            id = db.Column(db.REAL, primary_key=True)

        class Word(base):  # type: ignore[misc]
            id = db.Column(Folded, primary_key=True)
            note = db.Column(db.Text)

        class Code(base):  # type: ignore[misc]
            id = db.Column(OneWay, primary_key=True)

        with self.app.app_context():
            db.create_all()
        return {"numeric": Price, "real": Measure, "folded": Word, "piece": Piece, "one way": Code}

    def spec(self, model: Any = None) -> SignalSpec:
        with self.app.app_context():
            [spec] = self.bus.specs([model or self.order])
            return spec

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement.replace("%", "%%"))

    def write(self, *ids: int) -> None:
        values = ", ".join(f"({number})" for number in ids)
        self.execute(f'INSERT INTO "order" (id) VALUES {values}')

    def burst(self, model: Any = None, **arguments: Any) -> BurstResult:
        with own_session(self.db, self.app) as session:
            return send_burst(session, self.spec(model), **arguments)

    def flush(self, model: Any = None) -> int:
        with self.app.app_context():
            return int(self.bus.flushmany([model or self.order]))

    def left(self, model: Any = None) -> list[Any]:
        table = (model or self.order).__table__
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(table.c.id).order_by("id")))

    def words(self) -> list[str]:
        """The keys of the folded model, as the database has them."""
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.text('SELECT id FROM word ORDER BY id COLLATE "C"')))

    def set(self, name: str, value: str) -> None:
        """Change a setting of the database, for connections to come."""
        database = self.engine.url.database
        self.execute(f"ALTER DATABASE \"{database}\" SET {name} = '{value}'")
        self.engine.dispose()

    def notes(self) -> dict[str, tuple[str, bool]]:
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT key, error_class, next_try_at > now() FROM signalbus_parked"))
            return {key: (class_, waits) for key, class_, waits in rows}


@pytest.fixture
def outbox(database_url: str) -> Iterator[Outbox]:
    outbox = Outbox(database_url)
    yield outbox
    outbox.engine.dispose()


@pytest.mark.parametrize("cause", CAUSES)
def test_a_sent_signal_that_the_database_keeps_is_isolated(outbox: Outbox, cause: str) -> None:
    outbox.write(*range(40))
    outbox.execute(CAUSES[cause])
    limits = {"limits": SHORT} if cause == "trigger that waits" else {}
    result = outbox.burst(choice=NOTED, **limits)
    assert (result.sent, result.failed, result.error) == (39, (), None)
    [kept] = result.undeleted
    assert (kept.key, kept.outcome.kind, kept.outcome.cause) == ((7,), OutcomeKind.ACKED, "undeleted")
    assert kept.outcome.reason
    assert outbox.left() == [7]
    assert outbox.notes() == {"7": ("undeleted", True)}
    # A relay goes on with what comes next, and does not send it again.
    outbox.write(100)
    assert outbox.burst(choice=NOTED, **limits).keys == ((100,),)
    assert outbox.sent == Counter([*range(40), 100])


@pytest.mark.parametrize("cause", ["foreign key", "deferred foreign key", "trigger that raises"])
def test_nobody_gets_what_was_sent_while_kept_row_is_looked_for(outbox: Outbox, cause: str) -> None:
    outbox.write(*range(1, 11))
    outbox.execute(CAUSES[cause])
    others: list[list[int]] = []

    def look(_context: Any) -> None:
        with sa.create_engine(outbox.engine.url).connect() as other:
            others.append(list(other.scalars(sa.text('SELECT id FROM "order" FOR UPDATE SKIP LOCKED'))))

    sa.event.listen(outbox.engine, "handle_error", look)
    try:
        result = outbox.burst(can_keep_rows=True)
    finally:
        sa.event.remove(outbox.engine, "handle_error", look)
    assert others
    assert not any(others)
    assert (result.sent, [one.key for one in result.undeleted]) == (9, [(7,)])


def test_a_rehearsal_tells_whether_rows_can_be_kept(outbox: Outbox) -> None:
    outbox.write(1, 2, 3)
    assert outbox.burst(limit=1).can_keep_rows is None
    assert outbox.burst(limit=1, rehearse=True).can_keep_rows is False
    outbox.execute('CREATE TABLE child (order_id int REFERENCES "order" (id))')
    assert outbox.burst(limit=1, rehearse=True).can_keep_rows is True


def test_the_reason_shows_no_value_of_the_signal(outbox: Outbox) -> None:
    outbox.write(7)
    outbox.execute("UPDATE \"order\" SET note = 'hunter2'")
    outbox.execute(KEEPING_SEVEN.format(what="RAISE EXCEPTION 'not with % in it', OLD.note;"))
    [failed] = outbox.burst(rehearse=True).failed
    [kept] = outbox.burst(choice=NOTED).undeleted
    again = delete_sent(outbox.engine, outbox.spec(), [Proved(kept.key, kept.version)], choice=NOTED).undeleted[0]
    for one in (failed, kept, again):
        assert one.outcome.reason.endswith("not with *** in it")


@pytest.mark.parametrize("cause", ["foreign key", "trigger that suppresses", "trigger that raises"])
def test_a_rehearsal_finds_it_before_it_is_sent(outbox: Outbox, cause: str) -> None:
    outbox.write(*range(40))
    outbox.execute(CAUSES[cause])
    result = outbox.burst(rehearse=True)
    assert (result.sent, result.undeleted, [one.key for one in result.failed]) == (39, (), [(7,)])
    assert "cannot be deleted" in result.failed[0].outcome.reason
    assert outbox.sent == Counter(number for number in range(40) if number != 7)


def test_what_sender_wrote_is_kept_when_trigger_keeps_one_signal(outbox: Outbox) -> None:
    outbox.write(7, 8)
    outbox.execute("CREATE TABLE journal (line text);" + CAUSES["trigger that suppresses"])
    outbox.sender = lambda _: outbox.db.session.execute(sa.text("INSERT INTO journal VALUES ('sent')"))
    assert outbox.burst(choice=NOTED).sent == 1
    with outbox.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT line FROM journal")) == "sent"


def test_its_delete_is_tried_again_and_not_its_send(outbox: Outbox) -> None:
    outbox.write(7, 8)
    outbox.execute(CAUSES["foreign key"])
    [kept] = outbox.burst(choice=NOTED).undeleted
    proved = [Proved(kept.key, kept.version)]
    again = delete_sent(outbox.engine, outbox.spec(), proved, choice=NOTED)
    assert (again.sent, [one.key for one in again.undeleted]) == (0, [(7,)])
    assert outbox.notes() == {"7": ("undeleted", True)}
    outbox.execute("DELETE FROM child")
    again = delete_sent(outbox.engine, outbox.spec(), proved, choice=NOTED)
    assert (again.sent, again.undeleted) == (1, ())
    assert outbox.left() == []
    assert outbox.notes() == {}
    assert outbox.sent == Counter([7, 8])


@pytest.mark.parametrize("cause", ["trigger that marks", "rule that marks"])
def test_a_row_that_is_marked_instead_of_deleted_is_sent_once(outbox: Outbox, cause: str) -> None:
    outbox.write(7, 8)
    outbox.execute(CAUSES[cause])
    [kept] = outbox.burst(choice=NOTED).undeleted
    for _ in range(2):
        again = delete_sent(outbox.engine, outbox.spec(), [kept.proved], choice=NOTED)
        assert (again.sent, [one.key for one in again.undeleted]) == (0, [(7,)])
        assert outbox.burst(choice=NOTED).selected == 0
    assert outbox.sent == Counter([7, 8])


@pytest.mark.parametrize("how", ["", "CONSTRAINT"])
def test_a_row_that_a_trigger_writes_again_is_sent_once(outbox: Outbox, how: str) -> None:
    outbox.write(7, 8)
    deferred = "DEFERRABLE INITIALLY DEFERRED" if how else ""
    outbox.execute(
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        ' INSERT INTO "order" (id) VALUES (7); RETURN NULL; END $$;'
        f'CREATE {how} TRIGGER again AFTER DELETE ON "order" {deferred} FOR EACH ROW WHEN (OLD.id = 7)'
        " EXECUTE FUNCTION again()"
    )
    [kept] = outbox.burst(choice=NOTED, can_keep_rows=True).undeleted
    again = delete_sent(outbox.engine, outbox.spec(), [kept.proved], choice=NOTED)
    assert [one.key for one in again.undeleted] == [(7,)]
    assert outbox.burst(choice=NOTED).selected == 0
    assert outbox.sent == Counter([7, 8])


def test_a_row_with_a_lossy_key_that_is_marked_instead_is_sent_once(outbox: Outbox) -> None:
    word = outbox.lossy["folded"]
    outbox.execute(
        "INSERT INTO word VALUES (' Tea'), ('milk');"
        "CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE word SET note = 'deleted' WHERE id = OLD.id; RETURN NULL; END $$;"
        "CREATE TRIGGER mark BEFORE DELETE ON word FOR EACH ROW WHEN (OLD.id = ' Tea') EXECUTE FUNCTION mark()"
    )
    result = outbox.burst(word, choice=NOTED, can_keep_rows=True)
    assert (result.sent, [one.key for one in result.undeleted]) == (1, [("tea",)])
    assert outbox.burst(word, choice=NOTED).selected == 0


def test_a_text_key_that_a_trigger_writes_again_is_sent_once(outbox: Outbox) -> None:
    word = outbox.lossy["folded"]
    outbox.execute(
        "INSERT INTO word VALUES ('tea'), ('milk');"
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO word (id) VALUES (OLD.id); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER again AFTER DELETE ON word DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " WHEN (OLD.id = 'tea') EXECUTE FUNCTION again()"
    )
    result = outbox.burst(word, choice=NOTED, can_keep_rows=True)
    assert (result.sent, [one.key for one in result.undeleted]) == (1, [("tea",)])
    assert outbox.burst(word, choice=NOTED).selected == 0


KEEPING_TEA = {
    "nothing": "CREATE TABLE child (id text REFERENCES word)",
    "foreign key": "CREATE TABLE child (id text REFERENCES word); INSERT INTO child VALUES (' Tea')",
    "deferred foreign key": "CREATE TABLE child (id text REFERENCES word DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO child VALUES (' Tea')",
    "trigger": "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
    "CREATE TRIGGER keep BEFORE DELETE ON word FOR EACH ROW WHEN (OLD.id = ' Tea') EXECUTE FUNCTION keep()",
}


@pytest.mark.parametrize("can_keep_rows", [False, True])
@pytest.mark.parametrize("cause", KEEPING_TEA)
def test_new_signal_that_is_read_as_a_sent_one_is_sent_too(outbox: Outbox, cause: str, can_keep_rows: bool) -> None:
    word = outbox.lossy["folded"]
    outbox.execute("INSERT INTO word VALUES (' Tea');" + KEEPING_TEA[cause])
    outbox.sender = lambda _: outbox.execute("INSERT INTO word VALUES ('tea')")
    result = outbox.burst(word, choice=NOTED, can_keep_rows=can_keep_rows)
    is_kept = cause != "nothing"
    assert (result.sent, len(result.undeleted), result.failed) == (not is_kept, is_kept, ())
    assert outbox.words() == ([" Tea"] if is_kept else []) + ["tea"]
    assert list(outbox.notes()) == ([" Tea"] if is_kept else [])
    outbox.sender = lambda _: None
    assert outbox.burst(word, choice=NOTED).sent == 1
    assert outbox.words() == ([" Tea"] if is_kept else [])


def test_a_rehearsal_blames_no_signal_for_one_that_is_read_alike(outbox: Outbox) -> None:
    word = outbox.lossy["folded"]
    outbox.execute("INSERT INTO word VALUES (' Tea');" + KEEPING_TEA["nothing"])

    def write(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == "SAVEPOINT signalbus_rehearsal":
            outbox.execute("INSERT INTO word VALUES ('tea')")

    sa.event.listen(outbox.engine, "before_cursor_execute", write)
    result = outbox.burst(word, rehearse=True)
    assert (result.sent, result.failed) == (1, ())
    assert outbox.words() == ["tea"]


@pytest.mark.parametrize("kind", ["one way", "piece"])
def test_a_key_that_cannot_be_written_keeps_no_signal(outbox: Outbox, kind: str) -> None:
    model = outbox.lossy[kind]
    values = {"one way": "'Tea'", "piece": "1e30"}[kind]
    if kind == "piece":
        outbox.execute("ALTER TABLE piece ALTER id TYPE numeric")
    outbox.execute(f"INSERT INTO {model.__table__.name} VALUES ({values})")
    result = outbox.burst(model, rehearse=True)
    assert (result.sent, result.failed, result.undeleted) == (1, (), ())
    assert outbox.left(model) == []


def test_many_rows_that_are_kept_cost_no_more_statements(outbox: Outbox) -> None:
    outbox.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        'CREATE TRIGGER keep BEFORE DELETE ON "order" FOR EACH ROW WHEN (OLD.id % 2 = 1) EXECUTE FUNCTION keep()'
    )
    counts: list[int] = []
    sa.event.listen(outbox.engine, "before_cursor_execute", lambda *_: counts.append(1))
    found = []
    for number in (2, 20):
        outbox.execute('TRUNCATE "order"')
        outbox.write(*range(number))
        counts.clear()
        assert len(outbox.burst(can_keep_rows=True).undeleted) == number // 2
        found.append(len(counts))
    assert found[0] == found[1]


def test_flushmany_ends_when_burst_after_burst_is_late(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[int] = []

    class LateError(Exception):
        pgcode = "57014"

    def late(_session: Any, _spec: Any, *, limit: int, **_: Any) -> BurstResult:
        limits.append(limit)
        assert len(limits) < 50
        if limit > 2:
            raise sa.exc.OperationalError("DELETE", {}, LateError("statement timeout"))
        invalid = Outcome(OutcomeKind.INVALID, "it cannot be deleted")
        keys = [(100 * len(limits) + number,) for number in range(limit)]
        return BurstResult(limit, failed=tuple(FailedSignal(key, invalid, row="16384(0,1)742") for key in keys))

    monkeypatch.setattr(flush, "send_burst", late)
    with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
        outbox.flush()
    assert limits.count(1) == 2


def test_a_new_signal_under_its_key_is_not_deleted(outbox: Outbox) -> None:
    outbox.write(7)
    outbox.execute(CAUSES["foreign key"])
    [kept] = outbox.burst().undeleted
    outbox.execute('DELETE FROM child; DELETE FROM "order"; INSERT INTO "order" (id) VALUES (7)')
    assert delete_sent(outbox.engine, outbox.spec(), [Proved(kept.key, kept.version)]).selected == 0
    assert outbox.left() == [7]


def test_flushmany_sends_it_once_and_deletes_it_when_it_can(outbox: Outbox) -> None:
    outbox.execute('CREATE TABLE child (order_id int REFERENCES "order" (id))')
    # A full burst, which rehearses; what is written meanwhile is sent by the next one, which does not.
    outbox.write(*range(100, 150))

    def sender(signals: list[Any]) -> None:
        if signals[0].id == 100:
            outbox.write(*range(40))
            outbox.execute("INSERT INTO child VALUES (7)")

    outbox.sender = sender
    for _ in range(2):
        with pytest.raises(BurstError, match=r"1 signal of Order was sent.*not sent again"):
            outbox.flush()
        assert outbox.left() == [7]
    outbox.execute("DELETE FROM child")
    assert outbox.flush() == 0
    assert outbox.left() == []
    assert outbox.sent == Counter([*range(40), *range(100, 150)])


def test_flushmany_does_not_send_again_what_is_noted_as_sent(outbox: Outbox) -> None:
    outbox.write(7, 8)
    outbox.execute(CAUSES["foreign key"])
    assert outbox.burst(choice=NOTED).sent == 1
    for _ in range(3):
        with pytest.raises(BurstError, match="1 signal of Order was sent, and cannot be deleted from 'order'"):
            outbox.flush()
    outbox.execute("DELETE FROM child")
    assert outbox.flush() == 0
    assert outbox.left() == []
    assert outbox.sent == Counter([7, 8])


@pytest.mark.parametrize("note", ["locked", "kept by a trigger", "kept by a trigger that raises"])
def test_a_note_is_never_in_the_way_of_its_signal(outbox: Outbox, note: str) -> None:
    outbox.write(1, 2)
    outbox.execute(
        "INSERT INTO signalbus_parked (table_name, key, model, attempts, first_failed_at, last_failed_at, next_try_at,"
        " error_class, error_text) VALUES ('order', '1', 'Order', 1, now(), now(), now(), 'returned', '')"
    )
    what = {"kept by a trigger": "RETURN NULL;", "kept by a trigger that raises": "RAISE EXCEPTION 'no';"}.get(note)
    if what is not None:
        outbox.execute(
            f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$;"
            " CREATE TRIGGER keep BEFORE DELETE ON signalbus_parked FOR EACH ROW EXECUTE FUNCTION keep()"
        )
    with outbox.engine.connect() as other:
        other.execute(sa.text("SELECT FROM signalbus_parked FOR UPDATE"))
        if note != "locked":
            other.rollback()
        result = outbox.burst(choice=Choice(LeaveOut.FAILED, only=((1,), (2,)), forgets=True))
    assert (result.sent, result.undeleted) == (2, ())
    assert outbox.left() == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [("numeric", ["0.1234567890123456789", "7"]), ("real", ["'0.1'", "'16777217'"]), ("folded", ["' Tea'", "'MILK '"])],
)
@pytest.mark.parametrize("rehearse", [False, True])
def test_a_key_that_python_reads_lossily_is_sent_once(
    outbox: Outbox, kind: str, values: list[str], rehearse: bool
) -> None:
    model: Any = outbox.lossy[kind]
    table = model.__table__.name
    outbox.execute(f"ALTER TABLE {table} ALTER id TYPE numeric" if kind == "real" else "SELECT 1")
    outbox.execute(f"INSERT INTO {table} VALUES {', '.join(f'({value})' for value in values)}")
    result = outbox.burst(model, rehearse=rehearse)
    assert (result.sent, result.failed, result.undeleted) == (2, (), ())
    assert outbox.burst(model).selected == 0
    assert sum(outbox.sent.values()) == 2


@pytest.mark.parametrize("kind", ["numeric", "folded"])
@pytest.mark.parametrize("is_sent", [True, False])
def test_failed_signal_with_lossy_key_is_parked_and_tried_once(outbox: Outbox, kind: str, is_sent: bool) -> None:
    model: Any = outbox.lossy[kind]
    table = model.__table__.name
    bad, good = {"numeric": ("0.1234567890123456789", "7"), "folded": ("' Tea'", "'milk'")}[kind]
    outbox.execute(f"INSERT INTO {table} VALUES ({bad}), ({good})")
    if is_sent:
        outbox.execute(f"CREATE TABLE child AS SELECT id FROM {table} WHERE id = {bad}")
        outbox.execute(f"ALTER TABLE child ADD FOREIGN KEY (id) REFERENCES {table}")
    retry_store = TableRetryStore(outbox.spec(model), outbox.engine, RetryPolicy(), BurstLimits())

    def sender(signals: list[Any]) -> None:
        if not is_sent:
            one = next(signal for signal in signals if signal.id in ("tea", 0.12345678901234568))
            delivered = [signal for signal in signals if signal is not one]
            raise PartialDeliveryError(delivered, [(one, Outcome(OutcomeKind.REFUSED, "no route", cause="returned"))])

    outbox.sender = sender
    result = outbox.burst(model, choice=retry_store.choice([]))
    assert result.sent == 1
    retry_store.put((*result.failed, *result.undeleted))
    retry_store.clean_up()
    assert retry_store.count() == (0, 1)
    assert outbox.burst(model, choice=retry_store.choice([])).selected == 0
    with outbox.app.app_context():
        assert outbox.bus.flushmany([model]) == 0
    assert sum(outbox.sent.values()) == 2
    with outbox.engine.connect() as connection:
        [note] = parked.list_failed(connection, outbox.spec(model))
    assert "reads its key as another" in note.error_text
    outbox.execute(f"DELETE FROM {'child' if is_sent else table}; DELETE FROM {table}")
    retry_store.clean_up()
    assert retry_store.count() == (0, 0)


@pytest.mark.parametrize("table", ["there", "dropped"])
@pytest.mark.parametrize("is_sent", [True, False])
@pytest.mark.parametrize("kind", ["numeric", "folded"])
def test_flushmany_goes_on_after_a_signal_whose_key_is_read_lossily(
    outbox: Outbox, kind: str, is_sent: bool, table: str
) -> None:
    model: Any = outbox.lossy[kind]
    name = model.__table__.name
    bad = {"numeric": ("0.1234567890123456789", "0.2234567890123456789"), "folded": ("' Milk'", "' Tea'")}[kind]
    good = {"numeric": ("7", "8", "9"), "folded": ("'milk rice'", "'tea house'", "'water'")}[kind]
    model.signalbus_burst_count = 1
    outbox.execute(f"INSERT INTO {name} VALUES {', '.join(f'({value})' for value in (*bad, *good))}")
    read = {"numeric": (0.12345678901234568, 0.22345678901234568), "folded": ("milk", "tea")}[kind]
    if is_sent:
        outbox.execute(
            f"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF OLD.id::text IN ({', '.join(one if one[0] == chr(39) else repr(one) for one in bad)})"
            f" AND (SELECT count(*) FROM {name}) < 5 THEN RAISE EXCEPTION 'kept'; END IF; RETURN OLD; END $$;"
            f"CREATE TRIGGER keep BEFORE DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION keep()"
        )

    def sender(signals: list[Any]) -> None:
        if not is_sent and signals[0].id in read:
            raise ValueError("bad")

    outbox.sender = sender
    if table == "dropped":
        outbox.execute("DROP TABLE signalbus_parked")
    with pytest.raises(BurstError if is_sent else ValueError) as raised:
        outbox.flush(model)
    if is_sent:
        assert str(raised.value).endswith(
            "They are noted in signalbus_parked and not sent again. Without that table, or without the right to write "
            "it, the next call sends them again."
        )
    assert len(outbox.left(model)) == (1 if is_sent else 2)
    assert set(outbox.sent.values()) == {1}
    assert len(outbox.sent) == 5


@pytest.mark.parametrize("fails", [False, True])
def test_a_key_that_is_no_integer_where_the_model_says_so_is_tried_once(outbox: Outbox, fails: bool) -> None:
    piece: Any = outbox.lossy["piece"]
    outbox.execute("ALTER TABLE piece ALTER id TYPE numeric; INSERT INTO piece VALUES (1), (2.5), (3)")
    retry_store = TableRetryStore(outbox.spec(piece), outbox.engine, RetryPolicy(), BurstLimits())
    for turn in range(3):

        def sender(signals: list[Any]) -> None:
            bad = [signal for signal in signals if fails and signal.id != int(signal.id)]
            if bad:
                refused = Outcome(OutcomeKind.REFUSED, "no route", cause="returned")
                raise PartialDeliveryError([s for s in signals if s not in bad], [(s, refused) for s in bad])

        outbox.sender = sender
        if turn == 0 and not fails:
            assert outbox.flush(piece) == 3
        result = outbox.burst(piece, choice=retry_store.choice([]))
        if result.failed:
            retry_store.put(result.failed)
        retry_store.clean_up()
    assert retry_store.count() == (0, 1 if fails else 0)
    assert len(outbox.left(piece)) == (1 if fails else 0)
    assert set(outbox.sent.values()) == {1}
    assert len(outbox.sent) == 3


def test_row_whose_key_looks_like_that_of_another_stays(outbox: Outbox) -> None:
    model = outbox.lossy["numeric"]
    outbox.execute("INSERT INTO price VALUES (1), (1.000000000000000000001)")
    with outbox.engine.connect() as other:
        other.execute(sa.text("SELECT FROM price WHERE id = 1 FOR UPDATE"))
        assert outbox.burst(model).sent == 1
    with outbox.engine.connect() as connection:
        assert str(connection.scalar(sa.text("SELECT id FROM price"))) == "1"


@pytest.mark.parametrize("kind", ["lossy", "inherited"])
def test_two_rows_of_one_key_are_refused_before_anything_is_sent(outbox: Outbox, kind: str) -> None:
    model = outbox.lossy["folded"] if kind == "lossy" else outbox.order
    if kind == "lossy":
        outbox.execute("INSERT INTO word VALUES ('tea'), ('Tea')")
    else:
        outbox.write(1)
        outbox.execute('CREATE TABLE abroad () INHERITS ("order"); INSERT INTO abroad (id) VALUES (1)')
    with pytest.raises(
        BurstError, match=r"Two rows of '(word|order)' have the same key \((tea|1)\).*inherits"
    ) as raised:
        outbox.burst(model)
    assert raised.value.proved == ()
    assert outbox.sent == Counter()
    assert len(outbox.left(model)) == 2


@pytest.mark.parametrize(
    "hooks",
    [
        ("before_commit",),
        ("before_flush",),
        ("persistent_to_detached",),
        ("before_commit", "after_rollback"),
        ("persistent_to_detached", "after_soft_rollback"),
    ],
    ids=" ".join,
)
def test_a_listener_of_application_that_raises_costs_no_message(outbox: Outbox, hooks: tuple[str, ...]) -> None:
    outbox.write(1, 2, 3)

    def refuse(session: Any, *_: Any) -> None:
        raise RuntimeError("outside of a request")

    if "before_flush" in hooks:
        outbox.sender = lambda _: outbox.db.session.add(outbox.order(id=50))
    for hook in hooks:
        sa.event.listen(outbox.db.session, hook, refuse)
    try:
        assert outbox.burst().sent == 3
    finally:
        for hook in hooks:
            sa.event.remove(outbox.db.session, hook, refuse)
    assert outbox.left() == []


def commit_once(outbox: Outbox, signals: list[Any]) -> None:
    for signal in signals:
        signal.note = "sent"
    outbox.db.session.commit()


def commit_twice(outbox: Outbox, signals: list[Any]) -> None:
    commit_once(outbox, signals)
    for signal in signals:
        signal.note = "really sent"
    outbox.db.session.commit()


def commit_in_a_savepoint(outbox: Outbox, signals: list[Any]) -> None:
    with outbox.db.session.begin_nested():
        signals[0].note = "sent"
    outbox.db.session.commit()


def commit_and_change(outbox: Outbox, signals: list[Any]) -> None:
    commit_once(outbox, signals)
    signals[0].note = "more"
    outbox.db.session.flush()


def commit_in_a_new_session(outbox: Outbox, signals: list[Any]) -> None:
    outbox.db.session.remove()
    outbox.db.session.execute(sa.update(outbox.order).values(note="sent"))
    outbox.db.session.commit()


def change_in_the_transaction(outbox: Outbox, signals: list[Any]) -> None:
    with outbox.db.session.begin_nested():
        signals[0].note = "sent"
    outbox.db.session.flush()


def change_the_key(outbox: Outbox, signals: list[Any]) -> None:
    signals[0].id += 100
    outbox.db.session.flush()


def change_the_key_and_commit(outbox: Outbox, signals: list[Any]) -> None:
    for signal in signals:
        change_the_key(outbox, [signal])
        outbox.db.session.commit()


@pytest.mark.parametrize(
    "sender",
    [
        *(commit_once, commit_twice, commit_in_a_savepoint, commit_and_change, commit_in_a_new_session),
        *(change_in_the_transaction, change_the_key, change_the_key_and_commit),
    ],
)
@pytest.mark.parametrize("isolation_level", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_sender_that_updates_its_rows_sends_them_once(
    outbox: Outbox, sender: Callable[[Outbox, list[Any]], None], isolation_level: str
) -> None:
    outbox.set("default_transaction_isolation", isolation_level.lower())
    outbox.write(1, 2)
    outbox.sender = lambda signals: sender(outbox, signals)
    result = outbox.burst()
    assert (result.sent, result.failed, result.undeleted) == (2, (), ())
    assert outbox.left() == []


@pytest.mark.parametrize("end", ["commit", "flush"])
@pytest.mark.parametrize("can_keep_rows", [False, True])
def test_a_sender_that_updates_rows_with_lossy_keys_sends_them_once(
    outbox: Outbox, end: str, can_keep_rows: bool
) -> None:
    word = outbox.lossy["folded"]
    outbox.execute("INSERT INTO word VALUES (' Tea'), ('MILK')")

    def sender(_signals: list[Any]) -> None:
        with outbox.db.session.begin_nested():
            outbox.db.session.execute(sa.text("UPDATE word SET note = 'sent'"))
        getattr(outbox.db.session, end)()

    outbox.sender = sender
    result = outbox.burst(word, can_keep_rows=can_keep_rows)
    assert (result.sent, result.failed, result.undeleted) == (2, (), ())
    assert outbox.words() == []


def test_a_row_that_others_write_anew_is_kept_and_told(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        outbox.db.session.commit()
        outbox.execute('DELETE FROM "order" WHERE id = 1; INSERT INTO "order" (id, note) VALUES (1, \'new\')')

    outbox.sender = sender
    result = outbox.burst()
    assert (result.sent, [one.key for one in result.failed]) == (1, [(1,)])
    assert "written anew" in result.failed[0].outcome.reason
    assert outbox.left() == [1]


def test_new_signal_under_the_key_that_a_sender_changed_stays(outbox: Outbox) -> None:
    outbox.write(1)

    def sender(signals: list[Any]) -> None:
        change_the_key_and_commit(outbox, signals)
        outbox.write(1)
        outbox.db.session.execute(sa.text("SELECT 1"))

    outbox.sender = sender
    outbox.burst()
    assert outbox.left() == [1]


def test_new_signal_read_as_one_whose_sender_commits_stays(outbox: Outbox) -> None:
    word = outbox.lossy["folded"]
    outbox.execute("INSERT INTO word VALUES (' Tea')")

    def sender(_signals: list[Any]) -> None:
        outbox.execute("INSERT INTO word VALUES ('tea')")
        outbox.db.session.commit()

    outbox.sender = sender
    outbox.burst(word)
    assert outbox.words() == ["tea"]


def test_sent_signals_are_told_when_the_database_is_away(outbox: Outbox) -> None:
    outbox.write(1, 2)
    name = sa.engine.make_url(str(outbox.engine.url)).database
    admin = sa.create_engine(outbox.engine.url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def sender(signals: list[Any]) -> None:
        with admin.connect() as connection:
            connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
            connection.execute(
                sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
            )

    outbox.sender = sender
    with pytest.raises(BurstError, match="2 signals of Order were sent, and could not be deleted") as raised:
        outbox.burst()
    with admin.connect() as connection:
        connection.execute(sa.text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    admin.dispose()
    assert [one.key for one in raised.value.proved] == [(1,), (2,)]
    assert delete_sent(outbox.engine, outbox.spec(), raised.value.proved).sent == 2
    assert outbox.left() == []
    assert outbox.sent == Counter([1, 2])


def marked(outbox: Outbox) -> None:
    """Rows are marked instead of deleted."""
    outbox.order.signalbus_condition = "note IS DISTINCT FROM 'sent'"
    outbox.order.signalbus_done = (("note", "'sent'"),)
    outbox.write(1, 2)


@pytest.mark.parametrize("end", ["rollback", "commit", "invalidate"])
def test_marked_rows_without_their_locks_are_not_written_anew(outbox: Outbox, end: str) -> None:
    marked(outbox)
    outbox.sender = lambda _: getattr(outbox.db.session(), end)()
    result = outbox.burst()
    assert (result.sent, result.failed, result.undeleted) == (2, (), ())
    assert outbox.sent == Counter([1, 2])


def test_a_row_whose_mark_is_taken_back_is_found_by_any_condition(outbox: Outbox) -> None:
    outbox.order.signalbus_condition = "note IS DISTINCT FROM 'sent' AND id > 0"
    outbox.order.signalbus_done = (("note", "'sent'"),)
    outbox.write(1, 2)
    outbox.execute(
        "CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note = 'no'; RETURN NEW; END $$;"
        'CREATE TRIGGER back BEFORE UPDATE ON "order" FOR EACH ROW WHEN (OLD.id = 1) EXECUTE FUNCTION back()'
    )
    result = outbox.burst(choice=NOTED)
    assert (result.sent, [one.key for one in result.undeleted]) == (1, [(1,)])
    assert outbox.burst(choice=NOTED).selected == 0


def test_marked_rows_need_no_further_mark(outbox: Outbox) -> None:
    marked(outbox)
    assert outbox.burst().sent == 2
    result = delete_sent(outbox.engine, outbox.spec(), [Proved((1,), None), Proved((2,), None)], choice=NOTED)
    assert (result.selected, result.undeleted) == (0, ())


def test_marked_rows_are_not_kept_in_sqlite() -> None:
    app = OutboxApp("sqlite://")

    def send(_signal: Any) -> None:
        app.db.session.execute(sa.text("DELETE FROM job WHERE id = 1"))

    note = sa.Column(sa.Text)
    settings = {"signalbus_condition": "note IS NOT 'sent'", "signalbus_done": (("note", "'sent'"),)}
    model = app.model("Job", send, note=note, signalbus_burst_count=10, **settings)
    app.create()
    app.write(model, 1, 2)
    result = app.burst(model)
    assert result.error is None
    assert (result.sent, result.undeleted) == (2, ())
    app.close()


def test_a_database_that_is_read_only_keeps_no_single_signal(outbox: Outbox) -> None:
    outbox.write(1, 2)

    def sender(signals: list[Any]) -> None:
        outbox.set("default_transaction_read_only", "on")
        outbox.db.session.rollback()

    outbox.sender = sender
    with pytest.raises(BurstError) as raised:
        outbox.burst()
    assert len(raised.value.proved) == 2


def test_rows_of_partitions_are_told_apart(outbox: Outbox) -> None:
    outbox.execute(
        'DROP TABLE "order"; CREATE TABLE "order" (id numeric PRIMARY KEY, note text) PARTITION BY HASH (id);'
        'CREATE TABLE p0 PARTITION OF "order" FOR VALUES WITH (MODULUS 2, REMAINDER 0);'
        'CREATE TABLE p1 PARTITION OF "order" FOR VALUES WITH (MODULUS 2, REMAINDER 1)'
    )
    outbox.write(*range(20))
    assert outbox.burst(limit=5).sent == 5
    assert outbox.left() == list(range(5, 20))
