"""Atomic blocks on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import (
    AtomicProceduresMixin,
    DBSerializationError,
    SetupError,
    SignalBusMixin,
    TransactionStateError,
)


class Database(AtomicProceduresMixin, SignalBusMixin, SQLAlchemy):
    pass


class Bank:
    def __init__(self, url: str, **config: Any) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config.update(config)
        self.db = db = Database(self.app)

        class Account(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)
            balance = db.Column(db.Integer, nullable=False, default=0)
            secret = sa.orm.deferred(db.Column(db.Text), raiseload=True)
            notes = db.relationship("Note", lazy="raise")

            def send_signalbus_message(self) -> None:
                raise AssertionError("not to be sent here")

        class Note(db.Model):  # type: ignore[name-defined,misc]
            id = db.Column(db.Integer, primary_key=True)
            account_id = db.Column(db.ForeignKey("account.id"))
            account = db.relationship("Account", viewonly=True)

        self.account: Any = Account
        self.note: Any = Note
        with self.app.app_context():
            db.create_all(None)

    def balances(self) -> dict[int, int]:
        with self.db.engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT id, balance FROM account"))
            return {row.id: row.balance for row in rows}


@pytest.fixture
def bank(database_url: str) -> Iterator[Bank]:
    bank = Bank(database_url)
    with bank.app.app_context():
        yield bank
        bank.db.engine.dispose()


def test_a_block_is_committed_when_it_returns(bank: Bank) -> None:
    @bank.db.atomic
    def open_account(number: int, *, balance: int) -> int:
        bank.db.session.add(bank.account(id=number, balance=balance))
        return number

    assert open_account(1, balance=5) == 1
    assert bank.balances() == {1: 5}


def test_a_block_in_a_context_copied_from_an_earlier_one_is_committed(bank: Bank) -> None:
    # As the context of a task that the earlier block has created.
    context = bank.db.execute_atomic(copy_context)

    def later() -> None:
        bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))

    context.run(later)
    assert bank.balances() == {1: 0}


def test_a_block_keeps_its_name_and_docstring(bank: Bank) -> None:
    @bank.db.atomic
    def open_account() -> None:
        """Open it."""

    assert (open_account.__name__, open_account.__doc__) == ("open_account", "Open it.")


def test_execute_atomic_runs_on_the_spot_and_gives_the_result(bank: Bank) -> None:
    @bank.db.execute_atomic
    def number() -> int:
        bank.db.session.add(bank.account(id=7))
        return 7

    assert number == 7
    assert bank.balances() == {7: 0}


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_block_is_rolled_back_when_it_raises_whatever_it_raises(bank: Bank, error: BaseException) -> None:
    @bank.db.atomic
    def fail() -> None:
        bank.db.session.add(bank.account(id=1))
        bank.db.session.flush()
        raise error

    with pytest.raises(type(error)):
        fail()
    assert bank.balances() == {}
    assert not bank.db.session().in_transaction()


def test_objects_can_be_read_after_the_block(bank: Bank) -> None:
    account = bank.db.execute_atomic(lambda: _add(bank, bank.account(id=1, balance=3)))
    bank.db.session.remove()
    assert (account.id, account.balance) == (1, 3)
    assert sa.inspect(account).detached


def _add(bank: Bank, thing: Any) -> Any:
    bank.db.session.add(thing)
    return thing


def test_a_nested_block_is_part_of_the_outer_one(bank: Bank) -> None:
    @bank.db.atomic
    def inner() -> None:
        bank.db.session.add(bank.account(id=1))

    @bank.db.atomic
    def outer() -> None:
        inner()
        bank.db.session.flush()
        assert bank.balances() == {}
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        outer()
    assert bank.balances() == {}


def test_a_block_that_lost_a_race_is_executed_again(bank: Bank) -> None:
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1, balance=0)))
    first_reads = threading.Barrier(4, timeout=20)
    tries: list[int] = []

    @bank.db.atomic
    def add_one() -> None:
        tries.append(threading.get_ident())
        account = bank.db.session.get(bank.account, 1)
        if tries.count(threading.get_ident()) == 1:
            first_reads.wait()
        account.balance += 1

    def work() -> None:
        with bank.app.app_context():
            add_one()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert bank.balances() == {1: 4}
    assert len(tries) > 4


def test_a_block_that_loses_every_race_gives_up(bank: Bank) -> None:
    tries: list[int] = []

    @bank.db.atomic
    def lose() -> None:
        tries.append(1)
        raise DBSerializationError

    with pytest.raises(DBSerializationError):
        lose()
    assert 1 < len(tries) < 50


def test_an_integrity_error_inside_context_executes_block_again(bank: Bank) -> None:
    tries: list[bool] = []

    @bank.db.atomic
    def get_or_open() -> int:
        account = bank.db.session.get(bank.account, 1)
        tries.append(account is not None)
        if account is None:
            with bank.app.app_context():
                # Somebody else is faster.
                bank.db.session.add(bank.account(id=1, balance=8))
                bank.db.session.commit()
            with bank.db.retry_on_integrity_error():
                bank.db.session.add(bank.account(id=1, balance=0))
            account = bank.db.session.get(bank.account, 1)
        return int(account.balance)

    assert get_or_open() == 8
    assert tries == [False, True]


def test_integrity_error_from_before_context_is_raised_as_it_is(bank: Bank) -> None:
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))

    @bank.db.atomic
    def add() -> None:
        bank.db.session.add(bank.account(id=1))
        with bank.db.retry_on_integrity_error():
            pass

    with pytest.raises(sa.exc.IntegrityError):
        add()


def test_retry_on_integrity_error_outside_a_block_is_an_error(bank: Bank) -> None:
    with pytest.raises(TransactionStateError, match="inside an atomic block"), bank.db.retry_on_integrity_error():
        pass


def change(bank: Bank, how: str) -> None:
    """Change something outside of any block."""
    match how:
        case "locked":
            bank.db.session.get(bank.account, 9, with_for_update=True)
        case "changed":
            bank.db.session.get(bank.account, 9).balance = 1
        case "deleted":
            bank.db.session.delete(bank.db.session.get(bank.account, 9))
        case "bulk":
            bank.db.session.execute(sa.insert(bank.account).values(id=1))
        case _:
            bank.db.session.add(bank.account(id=1))
    if how == "flushed":
        bank.db.session.flush()


def write_elsewhere(bank: Bank, statement: str) -> None:
    with bank.db.engine.begin() as connection:
        connection.execute(sa.text(statement))


#: What has happened by the end, to the accounts 1 and 9.
CHANGES = {"added": {1: 0, 9: 0}, "flushed": {1: 0, 9: 0}, "bulk": {1: 0, 9: 0}, "changed": {9: 1}, "deleted": {}}


@pytest.mark.parametrize(("how", "after"), CHANGES.items(), ids=CHANGES)
def test_what_was_changed_before_a_block_is_committed_with_it(bank: Bank, how: str, after: dict[int, int]) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (9, 0)")
    change(bank, how)
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=2)))
    assert bank.balances() == {2: 0, **after}


@pytest.mark.parametrize("how", CHANGES)
def test_what_was_changed_before_a_block_is_rolled_back_with_it(bank: Bank, how: str) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (9, 0)")
    change(bank, how)
    with pytest.raises(ZeroDivisionError):
        bank.db.execute_atomic(lambda: 1 // 0)
    assert bank.balances() == {9: 0}
    assert not bank.db.session().in_transaction()


@pytest.mark.parametrize("how", [*CHANGES, "locked"])
def test_a_block_that_began_with_changes_is_never_executed_again(bank: Bank, how: str) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (8, 0), (9, 0)")
    change(bank, how)
    bank.db.session.get(bank.account, 8)
    tries: list[int] = []

    @bank.db.atomic
    def lose() -> None:
        tries.append(1)
        write_elsewhere(bank, "UPDATE account SET balance = 5 WHERE id = 8")
        bank.db.session.get(bank.account, 8).balance += 1

    with pytest.raises(DBSerializationError, match="changed or locked before") as raised:
        lose()
    assert isinstance(raised.value.__cause__, sa.exc.OperationalError)
    assert tries == [1]
    assert bank.balances() == {8: 5, 9: 0}


def test_a_violated_constraint_of_a_block_that_began_with_changes_is_raised_at_once(bank: Bank) -> None:
    change(bank, "added")
    tries: list[int] = []

    @bank.db.atomic
    def lose() -> None:
        tries.append(1)
        with bank.db.retry_on_integrity_error():
            write_elsewhere(bank, "INSERT INTO account VALUES (2, 0)")
            bank.db.session.execute(sa.insert(bank.account).values(id=2))

    with pytest.raises(DBSerializationError, match="changed or locked before"):
        lose()
    assert tries == [1]
    assert bank.balances() == {2: 0}


def test_an_attribute_that_got_value_that_it_had_is_no_change(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (9, 0)")
    account = bank.db.session.get(bank.account, 9)
    account.balance = 1
    account.balance = 0
    assert account in bank.db.session.dirty
    tries: list[int] = []

    @bank.db.atomic
    def lose_once() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise DBSerializationError

    lose_once()
    assert len(tries) == 2


def test_block_goes_on_in_open_transaction_further_ones_begin(bank: Bank) -> None:
    began = [bank.db.session.scalar(sa.select(sa.func.now()))]

    @bank.db.atomic
    def lose_once() -> None:
        began.append(bank.db.session.scalar(sa.select(sa.func.now())))
        if len(began) == 2:
            raise DBSerializationError

    lose_once()
    assert began[0] == began[1] < began[2]


def test_a_row_that_was_locked_before_a_block_is_locked_in_it(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (9, 0)")
    change(bank, "locked")
    free = "SELECT id FROM account FOR UPDATE SKIP LOCKED"

    @bank.db.execute_atomic
    def found() -> list[int]:
        with bank.db.engine.connect() as other:
            return list(other.scalars(sa.text(free)))

    assert found == []
    assert bank.db.session.scalars(sa.text(free)).all() == [9]


def test_what_was_read_before_a_block_can_be_read_after_it(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (9, 3)")
    account = bank.db.session.get(bank.account, 9)
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    assert sa.inspect(account).detached
    assert (account.id, account.balance) == (9, 3)


def test_what_earlier_commit_has_expired_can_be_read_after_block(bank: Bank) -> None:
    account = _add(bank, bank.account(id=9, balance=3))
    bank.db.session.commit()
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    assert sa.inspect(account).detached
    assert account.balance == 3


def test_what_was_read_before_a_block_that_lost_a_race_is_changed_and_read_as_it_is_now(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (8, 0), (9, 0)")
    changed, read = (bank.db.session.get(bank.account, number) for number in (8, 9))
    tries: list[int] = []

    @bank.db.atomic
    def add_one() -> None:
        tries.append(1)
        if len(tries) == 1:
            write_elsewhere(bank, "UPDATE account SET balance = 5")
        changed.balance += 1

    add_one()
    assert len(tries) == 2
    assert bank.balances() == {8: 6, 9: 5}
    assert (changed.balance, read.balance) == (6, 5)


def test_what_a_query_loaded_before_a_lost_race_can_be_read_where_reading_does_not_load(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (8, 0, 'x'), (9, 3, NULL); INSERT INTO note VALUES (1, 8)")
    loading = (sa.orm.joinedload(bank.account.notes), sa.orm.undefer(bank.account.secret))
    [full] = bank.db.session.scalars(sa.select(bank.account).filter_by(id=8).options(*loading)).unique()
    plain = bank.db.session.get(bank.account, 9)
    tries: list[int] = []

    @bank.db.atomic
    def lose_once() -> None:
        tries.append(1)
        bank.db.session.scalar(sa.text("SELECT 1"))
        if len(tries) == 1:
            raise DBSerializationError

    lose_once()
    assert len(tries) == 2
    assert (full.balance, full.secret, [note.id for note in full.notes], plain.balance) == (0, "x", [1], 3)


def test_of_what_a_commit_expired_no_collection_is_loaded(bank: Bank) -> None:
    write_elsewhere(bank, "INSERT INTO account VALUES (8, 4); INSERT INTO note VALUES (1, 8)")
    note = bank.db.session.get(bank.note, 1)
    account = note.account
    bank.db.session.commit()
    bank.db.execute_atomic(lambda: bank.db.session.scalar(sa.text("SELECT 1")))
    assert (note.account.balance, sa.inspect(account).unloaded) == (4, {"notes", "secret"})


def test_what_was_read_before_race_at_commit_is_changed_all_same(database_url: str) -> None:
    bank = Bank(database_url, SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "SERIALIZABLE"})
    with bank.app.app_context():
        write_elsewhere(bank, "INSERT INTO account VALUES (1, 0), (2, 0)")
        account = bank.db.session.get(bank.account, 1)
        bank.db.session.get(bank.account, 2)
        tries: list[int] = []

        @bank.db.atomic
        def add_one() -> None:
            tries.append(1)
            account.balance += 1
            bank.db.session.flush()
            if len(tries) == 1:
                # Each has read what the other writes: one of them fails, and this one commits later.
                write_elsewhere(
                    bank, "UPDATE account SET balance = (SELECT balance FROM account WHERE id = 1) + 5 WHERE id = 2"
                )

        add_one()
        assert len(tries) == 2
        assert bank.balances() == {1: 1, 2: 5}
        bank.db.engine.dispose()


def test_what_was_read_before_block_and_is_gone_does_no_harm(bank: Bank) -> None:
    account = _add(bank, bank.account(id=9, balance=3))
    bank.db.session.commit()
    write_elsewhere(bank, "DELETE FROM account")
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    assert sa.inspect(account).detached
    assert bank.balances() == {1: 0}


def test_a_block_that_has_committed_is_not_executed_again(bank: Bank) -> None:
    @bank.db.atomic
    def lose() -> None:
        bank.db.session.execute(sa.text("INSERT INTO account VALUES (1, 0)"))
        bank.db.session.commit()
        raise DBSerializationError

    with pytest.raises(DBSerializationError, match="committed itself"):
        lose()
    assert bank.balances() == {1: 0}


def test_a_block_that_has_released_a_savepoint_is_executed_again(bank: Bank) -> None:
    tries: list[int] = []

    @bank.db.atomic
    def lose_once() -> None:
        tries.append(1)
        with bank.db.session.begin_nested():
            bank.db.session.add(bank.account(id=1))
        if len(tries) == 1:
            raise DBSerializationError

    lose_once()
    assert len(tries) == 2
    assert bank.balances() == {1: 0}


def test_a_block_may_roll_back_itself_and_go_on(bank: Bank) -> None:
    @bank.db.atomic
    def change_its_mind() -> None:
        bank.db.session.add(bank.account(id=1))
        bank.db.session.rollback()
        bank.db.session.add(bank.account(id=2))

    change_its_mind()
    assert bank.balances() == {2: 0}


def test_what_block_does_in_session_that_took_place_is_committed(bank: Bank) -> None:
    @bank.db.atomic
    def begin_anew() -> None:
        bank.db.session.remove()
        bank.db.session.add(bank.account(id=2))

    begin_anew()
    assert bank.balances() == {2: 0}


def test_a_nested_block_in_a_session_that_took_place_is_part_of_the_outer_one(bank: Bank) -> None:
    @bank.db.atomic
    def add() -> None:
        with bank.db.retry_on_integrity_error():
            bank.db.session.add(bank.account(id=2))

    @bank.db.atomic
    def begin_anew_and_fail() -> None:
        bank.db.session.remove()
        add()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        begin_anew_and_fail()
    assert bank.balances() == {}
    add()
    assert bank.balances() == {2: 0}


def test_a_block_that_committed_in_a_session_that_took_place_is_not_executed_again(bank: Bank) -> None:
    @bank.db.atomic
    def lose() -> None:
        bank.db.session.remove()
        bank.db.session.execute(sa.text("INSERT INTO account VALUES (1, 0)"))
        bank.db.session.commit()
        raise DBSerializationError

    with pytest.raises(DBSerializationError, match="committed itself"):
        lose()
    assert bank.balances() == {1: 0}


async def in_time() -> None:
    """Its code runs when somebody awaits it."""


def one_by_one() -> Iterator[int]:
    """Its code runs when somebody iterates over it."""
    yield 1


@pytest.mark.parametrize("func", [in_time, one_by_one])
def test_a_function_whose_code_runs_after_the_block_is_refused(bank: Bank, func: Any) -> None:
    for decorate in (bank.db.atomic, bank.db.execute_atomic):
        with pytest.raises(SetupError, match="after the atomic block has ended"):
            decorate(func)
    # A decorator hides what kind of function it is.
    for call in (bank.db.atomic(lambda: func()), lambda: bank.db.execute_atomic(lambda: func())):
        with pytest.raises(SetupError, match="its code has not run"):
            call()


def test_a_block_may_return_a_generator_expression(bank: Bank) -> None:
    assert list(bank.db.atomic(lambda: (number for number in (1, 2)))()) == [1, 2]


def test_block_in_broken_transaction_fails_and_next_one_does_not(bank: Bank) -> None:
    with pytest.raises(sa.exc.ProgrammingError):
        bank.db.session.execute(sa.text("SELECT nothing"))
    with pytest.raises(TransactionStateError, match="broken"):
        bank.db.execute_atomic(lambda: None)
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    assert bank.balances() == {1: 0}


def test_a_database_that_is_away_does_not_matter_to_a_block_that_does_not_use_it(database_url: str) -> None:
    bank = Bank(database_url, SQLALCHEMY_BINDS={"away": "postgresql+psycopg2://nobody@127.0.0.1:1/nothing"})
    with bank.app.app_context():
        bank.db.session.scalar(sa.text("SELECT 1"))
        bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
        assert bank.balances() == {1: 0}
        bank.db.engine.dispose()


def test_savepoint_open_before_block_is_committed_with_it(bank: Bank) -> None:
    bank.db.session.begin_nested()
    bank.db.session.add(bank.account(id=1))
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=2)))
    assert bank.balances() == {1: 0, 2: 0}


def test_flushmany_inside_a_block_is_refused(bank: Bank) -> None:
    with pytest.raises(TransactionStateError, match="atomic block"):
        bank.db.execute_atomic(lambda: bank.db.signalbus.flushmany())


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_a_block_in_a_send_method_is_part_of_the_burst(bank: Bank, error: Exception | None) -> None:
    @bank.db.atomic
    def send(_signal: Any) -> None:
        bank.db.session.execute(sa.text("CREATE TABLE receipt ()"))

    def send_and_fail(signal: Any) -> None:
        send(signal)
        write_elsewhere(bank, "DO $$ BEGIN ASSERT to_regclass('receipt') IS NULL; END $$")
        if error:
            raise error

    bank.account.send_signalbus_message = send_and_fail
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    if error is None:
        assert bank.db.signalbus.flushmany() == 1
    else:
        with pytest.raises(ValueError, match="no"):
            bank.db.signalbus.flushmany()
    assert bank.balances() == ({1: 0} if error else {})
    with bank.db.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT to_regclass('receipt') IS NULL")) is (error is not None)


def test_a_burst_is_read_committed_all_the_same(bank: Bank) -> None:
    levels: list[str] = []
    bank.account.send_signalbus_message = lambda _signal: levels.append(
        bank.db.session.scalar(sa.text("SHOW transaction_isolation"))
    )
    bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
    assert bank.db.signalbus.flushmany() == 1
    assert levels == ["read committed"]
    assert isolation(bank) == "repeatable read"


def isolation(bank: Bank, bind_key: str | None = None) -> str:
    with bank.app.app_context(), bank.db.engines[bind_key].connect() as connection:
        return str(connection.scalar(sa.text("SHOW transaction_isolation")))


def test_the_isolation_level_is_repeatable_read(bank: Bank) -> None:
    assert isolation(bank) == "repeatable read"


@pytest.mark.parametrize(
    "options", [{"isolation_level": "SERIALIZABLE"}, {"execution_options": {"isolation_level": "SERIALIZABLE"}}]
)
def test_a_configured_isolation_level_is_kept(database_url: str, options: dict[str, Any]) -> None:
    assert isolation(Bank(database_url, SQLALCHEMY_ENGINE_OPTIONS=options)) == "serializable"


def test_an_isolation_level_given_as_argument_is_kept(database_url: str) -> None:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app, engine_options={"isolation_level": "SERIALIZABLE"})
    with app.app_context(), db.engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW transaction_isolation")) == "serializable"


def test_each_bind_has_an_isolation_level_of_its_own(database_url: str, other_database_url: str) -> None:
    binds = {"plain": other_database_url, "own": {"url": other_database_url, "isolation_level": "READ COMMITTED"}}
    bank = Bank(database_url, SQLALCHEMY_BINDS=binds)
    assert isolation(bank) == "repeatable read"
    assert isolation(bank, "plain") == "repeatable read"
    assert isolation(bank, "own") == "read committed"


def test_engine_options_of_the_configuration_concern_the_default_database(
    database_url: str, other_database_url: str
) -> None:
    bank = Bank(
        database_url,
        SQLALCHEMY_ENGINE_OPTIONS={"isolation_level": "SERIALIZABLE"},
        SQLALCHEMY_BINDS={"plain": other_database_url, "mapping": {"url": other_database_url, "pool_size": 1}},
    )
    assert [isolation(bank, key) for key in (None, "plain", "mapping")] == [
        "serializable",
        "repeatable read",
        "repeatable read",
    ]


def test_engine_options_given_as_argument_concern_all_databases(database_url: str, other_database_url: str) -> None:
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI=database_url, SQLALCHEMY_BINDS={"plain": other_database_url})
    db = Database(app, engine_options={"isolation_level": "SERIALIZABLE"})
    with app.app_context(), db.engines["plain"].connect() as connection:
        assert connection.scalar(sa.text("SHOW transaction_isolation")) == "serializable"


def test_the_mixin_behind_sqlalchemy_is_refused() -> None:
    with pytest.raises(SetupError, match="AtomicProceduresMixin must come before SQLAlchemy"):
        type("Database", (SQLAlchemy, AtomicProceduresMixin), {})
    with pytest.raises(SetupError, match="AtomicProceduresMixin must come before SQLAlchemy"):
        type("Database", (SignalBusMixin, SQLAlchemy, AtomicProceduresMixin), {})


def test_the_mixin_without_sqlalchemy_is_refused() -> None:
    with pytest.raises(SetupError, match="AtomicProceduresMixin extends SQLAlchemy"):
        type("Database", (AtomicProceduresMixin,), {})()


def test_a_database_without_that_level_is_left_alone() -> None:
    bank = Bank("sqlite:///:memory:")
    with bank.app.app_context():
        bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
        assert bank.db.session.scalar(sa.select(sa.func.count()).select_from(bank.account)) == 1
