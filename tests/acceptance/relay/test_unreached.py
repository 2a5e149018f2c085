"""Signals that the poll sees and no burst gets: locked, hidden by the ORM, or hidden by a policy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.support import prefork
from tests.support.shop import Shop
from tests.support.waiting import eventually

#: Hides a row from the application's session.
FILTERS = {
    "do_orm_execute": """
    @db.event.listens_for(db.session, "do_orm_execute")
    def hide(state):
        if state.is_select and "order" in str(state.statement):
            state.statement = state.statement.where(Order.body != "1")
""",
    "with_loader_criteria": """
    from sqlalchemy.orm import with_loader_criteria

    @db.event.listens_for(db.session, "do_orm_execute")
    def hide(state):
        state.statement = state.statement.options(with_loader_criteria(Order, Order.body != "1"))
""",
}

LOGIN = "signalbus_unreached"


def hide(shop: Shop, how: str) -> None:
    path = shop.directory / "shop.py"
    path.write_text(path.read_text().replace("    db.init_app(app)\n", "    db.init_app(app)\n" + FILTERS[how]))


@contextmanager
def locked(shop: Shop) -> Iterator[int]:
    with shop.engine.connect() as connection:
        connection.execute(sa.text('SELECT 1 FROM "order" WHERE id = 1 FOR UPDATE'))
        yield connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0


def stopping(shop: Shop, *arguments: str, **environ: str) -> str:
    """The one line with which a relay ends that cannot send everything."""
    relay = shop.relay("--until-empty", "--drain-timeout", "2", *arguments, **environ)
    assert relay.wait(120) == 1, relay.output
    [line] = relay.logs("stopping")
    return str(line["message"])


def test_until_empty_ends_when_a_row_is_locked_and_says_by_whom(shop: Shop) -> None:
    shop.write(1, 5)
    with locked(shop) as pid:
        line = stopping(shop)
    assert (
        "Order: 1 signal is pending that no burst gets; of the first (1): it is locked by the session with pid" in line
    )
    assert f"SELECT pg_terminate_backend({pid})" in line
    assert "idle in transaction" in line
    assert sorted(shop.received()) == [2, 3, 4, 5]


@pytest.mark.parametrize("how", FILTERS)
def test_until_empty_ends_when_the_orm_hides_a_row_and_says_so(shop: Shop, how: str) -> None:
    hide(shop, how)
    shop.write(1, 5)
    line = stopping(shop)
    assert "Order: 1 signal is pending that no burst gets" in line
    assert "do_orm_execute" in line
    assert sorted(shop.received()) == [2, 3, 4, 5]


@pytest.fixture
def login(shop: Shop) -> Iterator[str]:
    """A login that policies apply to; gives its URL."""
    name = f"{LOGIN}_{make_url(shop.environ['TEST_DATABASE_URL']).database}"[:60]
    shop.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'secret'")
    shop.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"')
    url = make_url(shop.environ["TEST_DATABASE_URL"]).set(username=name, password="secret")
    yield url.render_as_string(hide_password=False)
    shop.close()
    with sa.create_engine(shop.engine.url).begin() as connection:
        connection.execute(sa.text(f'DROP OWNED BY "{name}"'))
        connection.execute(sa.text(f'DROP ROLE "{name}"'))


def test_until_empty_ends_when_a_policy_hides_a_row_and_says_so(shop: Shop, login: str) -> None:
    shop.execute('ALTER TABLE "order" ENABLE ROW LEVEL SECURITY')
    shop.execute('CREATE POLICY reading ON "order" FOR SELECT USING (true)')
    shop.execute("""CREATE POLICY writing ON "order" FOR ALL USING (body <> '1')""")
    shop.write(1, 5)
    line = stopping(shop, TEST_DATABASE_URL=login)
    assert "row-level security hides it" in line
    assert sorted(shop.received()) == [2, 3, 4, 5]


def test_until_empty_ends_when_a_send_method_hangs(shop: Shop) -> None:
    path = shop.directory / "shop.py"
    path.write_text(path.read_text().replace("super().send_signalbus_messages(signals)", "threading.Event().wait()"))
    shop.write(1, 5)
    relay = shop.relay("--until-empty", "--drain-timeout", "2", "--stall-after", "12")
    assert relay.wait(120) == 3
    [line] = relay.logs("stopping")
    assert re.search(r"Order: worker-[12] has made no progress for", line["message"])


def test_relay_tells_of_rows_that_no_burst_gets(shop: Shop) -> None:
    shop.write(1, 1)
    shop.write(101, 101, "invoice")
    with locked(shop) as pid:
        relay = shop.relay()
        line = relay.wait_for_log("signals_unreached", 60)
        assert line["signal"] == "Order"
        assert f"locked by the session with pid {pid}" in line["message"]
        assert relay.get("/readyz")[0] == 503
        assert relay.readiness()["stuck_models"] == ["Order"]
        assert any(f"pid {pid}" in reason for reason in relay.readiness()["reasons"])
        verdict = json.loads(relay.get("/api/status")[1])["verdict"]
        assert verdict["level"] == "stopped"
        assert verdict["text"].startswith("Signals of Order do not flow since ")
        assert relay.get("/livez")[0] == 200
    shop.wait_until_sent()
    eventually(lambda: relay.get("/readyz")[0] == 200, 20, "signals flow again")
    relay.wait_for_log("signals_reached", 20)


def test_both_commands_count_alike_whatever_the_orm_hides(shop: Shop) -> None:
    hide(shop, "do_orm_execute")
    shop.write(1, 5)
    relays = shop.command("pending")
    flasks = flask_pending(shop)
    assert "5" in next(line for line in relays.stdout.splitlines() if line.startswith("Order")).split()
    assert next(line for line in flasks.splitlines() if line.startswith("Order")).split() == ["Order", "5"]


def flask_pending(shop: Shop) -> str:
    command = ["flask", "--app", "shop:create_app", "signalbus", "pending"]
    done = prefork.run(command, os.environ | shop.environ, shop.directory)
    done.check_returncode()
    return done.stdout
