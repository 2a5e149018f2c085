"""The tables of ordered models as they are in practice: written by logins of few rights, and made by migrations."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import ORMExecuteState, with_loader_criteria

from signalbus_core import order_sql
from signalbus_core.lowlevel import Choice, order_problems
from signalbus_core.sql.ordered.heads import take_in_order
from tests.integration.burst.test_order import Orders


@pytest.fixture
def orders(database_url: str) -> Iterator[Orders]:
    app = Orders(database_url)
    yield app
    app.close()


@pytest.fixture
def producer(orders: Orders) -> Iterator[str]:
    """A role that may write signals, and nothing else."""
    name = f"producer_{uuid4().hex}"
    orders.execute(f"CREATE ROLE {name}", f"GRANT INSERT ON changed TO {name}")
    yield name
    orders.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_login_that_may_only_insert_writes_ordered_signals(orders: Orders, producer: str) -> None:
    insert = "INSERT INTO changed (id, account) VALUES ({}, 'a')"
    orders.execute(f"SET LOCAL ROLE {producer}", insert.format(2))
    orders.execute(*order_sql(orders.changed))
    # What its search path finds first is not what the trigger uses.
    orders.execute(
        "CREATE SCHEMA own",
        "CREATE FUNCTION own.nextval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT CAST(1 AS bigint)'",
        "CREATE DOMAIN own.bigint AS text",
        f"GRANT USAGE ON SCHEMA own TO {producer}",
        "SET LOCAL search_path = own, pg_catalog, public",
        f"SET LOCAL ROLE {producer}",
        insert.format(1),
    )
    orders.burst(orders.changed)
    assert orders.sent == [2, 1]


def test_no_other_login_may_use_the_function_of_the_trigger(orders: Orders, producer: str) -> None:
    """It has the rights of its owner, and would lend them to a trigger on a table of theirs."""
    orders.execute(f"GRANT CREATE ON SCHEMA public TO {producer}")
    create = "CREATE TABLE own (signalbus_position bigint, account text)"
    trigger = "CREATE TRIGGER own BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION changed_signalbus_position()"
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied for function"):
        orders.execute(f"SET LOCAL ROLE {producer}", create, trigger)


def test_a_partitioned_table_gets_positions(orders: Orders, producer: str) -> None:
    orders.execute(
        "DROP TABLE changed",
        "CREATE TABLE changed (id bigint, account text, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE changed_low PARTITION OF changed FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE changed_high PARTITION OF changed FOR VALUES FROM (10) TO (100)",
        f"GRANT INSERT ON changed TO {producer}",
        "INSERT INTO changed VALUES (1, 'z'), (11, 'z')",
    )
    for _ in range(2):
        orders.execute(*order_sql(orders.changed))
    orders.execute("CREATE TABLE changed_top PARTITION OF changed FOR VALUES FROM (100) TO (200)")
    with orders.connection() as connection:
        assert order_problems(connection, [orders.spec(orders.changed)]) == {}
    for number in (100, 12, 2):
        insert = f"INSERT INTO changed (id, account) VALUES ({number}, 'a')"
        orders.execute(f"SET LOCAL ROLE {producer}", insert)
    orders.burst(orders.changed)
    assert [one for one in orders.sent if one not in (1, 11)] == [100, 12, 2]
    assert orders.left(orders.changed) == []


def test_an_outdated_function_is_told_of(orders: Orders) -> None:
    orders.execute("ALTER FUNCTION changed_signalbus_position() SECURITY INVOKER")
    with orders.connection() as connection:
        assert "is outdated" in order_problems(connection, [orders.spec(orders.changed)])["Changed"]
    orders.execute(*order_sql(orders.changed))
    with orders.connection() as connection:
        assert order_problems(connection, [orders.spec(orders.changed)]) == {}


def test_rows_that_are_marked_cost_a_burst_nothing(database_url: str) -> None:
    condition = "status = 'NEW' AND account <> ''"
    columns = {"status": sa.Column(sa.Text), "signalbus_condition": condition}
    app = Orders(database_url, **columns, signalbus_done=(("status", "'SENT'"),))
    app.execute(
        "DROP INDEX changed_signalbus_order",
        *order_sql("changed", by="account", where=condition),
        "INSERT INTO changed (id, account, status) SELECT n, 'k' || n % 10, 'SENT' FROM generate_series(1, 20000) n",
        "INSERT INTO changed (id, account, status) SELECT -n, 'k' || n % 10, 'NEW' FROM generate_series(1, 20) n",
        "ANALYZE changed",
    )
    read = "SELECT pg_stat_get_xact_tuples_fetched(oid) + pg_stat_get_xact_tuples_returned(oid) FROM pg_class"
    with app.connection() as connection:
        for name in ("enable_sort", "enable_bitmapscan", "jit"):
            connection.execute(sa.text(f"SET LOCAL {name} = off"))
        places, _ = take_in_order(connection, app.spec(app.changed), 100, Choice(), 1 << 24)
        visited = connection.scalar(sa.text(f"{read} WHERE relname = 'changed'"))
        by_index = connection.scalar(sa.text(f"{read} WHERE relname = 'changed_signalbus_order'"))
    assert len(places) == 20
    assert 20 <= visited + by_index < 1_000
    app.close()


def test_keys_that_a_session_hides_delay_no_others(orders: Orders) -> None:
    changed = orders.changed
    orders.put(*((number, f"a{number % 5}") for number in range(10)), (20, "b"), (21, "c"), (22, "b"))

    def hide(state: ORMExecuteState) -> None:
        state.statement = state.statement.options(with_loader_criteria(changed, changed.id >= 10))

    sa.event.listen(orders.db.session, "do_orm_execute", hide)
    changed.signalbus_burst_count = 2
    assert orders.flush() == 3
    assert (orders.sent.index(20) < orders.sent.index(22), sorted(orders.sent)) == (True, [20, 21, 22])
    # A look at all keys ends, though none is left that it sees.
    assert orders.flush() == 0
