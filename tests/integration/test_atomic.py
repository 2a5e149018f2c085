"""Atomic blocks on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import AtomicProceduresMixin, DBSerializationError, SignalBusMixin, TransactionStateError


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

            def send_signalbus_message(self) -> None:
                raise AssertionError("not to be sent here")

        self.account: Any = Account
        with self.app.app_context():
            db.create_all()

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
def test_a_block_is_rolled_back_when_it_raises_whatever_it_raises(bank: Bank, error: BaseException) -> None:
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


def test_an_integrity_error_inside_the_context_executes_the_block_again(bank: Bank) -> None:
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


def test_an_integrity_error_from_before_the_context_is_raised_as_it_is(bank: Bank) -> None:
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


@pytest.mark.parametrize("how", ["added", "flushed", "bulk"])
def test_a_block_is_refused_while_the_session_has_changes_of_its_own(bank: Bank, how: str) -> None:
    if how == "bulk":
        bank.db.session.execute(sa.insert(bank.account).values(id=1))
    else:
        bank.db.session.add(bank.account(id=1))
    if how == "flushed":
        bank.db.session.flush()
    with pytest.raises(TransactionStateError, match="uncommitted"):
        bank.db.execute_atomic(lambda: None)
    bank.db.session.commit()
    assert bank.balances() == {1: 0}


def test_a_block_sees_what_was_committed_since_the_session_read_last(bank: Bank) -> None:
    assert bank.db.session.get(bank.account, 1) is None
    with bank.db.engine.begin() as connection:
        connection.execute(sa.insert(bank.account).values(id=1, balance=2))
    assert bank.db.execute_atomic(lambda: bank.db.session.get(bank.account, 1)).balance == 2


def test_flushmany_inside_a_block_is_refused(bank: Bank) -> None:
    with pytest.raises(TransactionStateError, match="atomic block"):
        bank.db.execute_atomic(lambda: bank.db.signalbus.flushmany())


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


def test_a_database_without_that_level_is_left_alone() -> None:
    bank = Bank("sqlite:///:memory:")
    with bank.app.app_context():
        bank.db.execute_atomic(lambda: bank.db.session.add(bank.account(id=1)))
        assert bank.db.session.scalar(sa.select(sa.func.count()).select_from(bank.account)) == 1
