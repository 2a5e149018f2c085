"""Several hosts in the URL of the database: the primary is found, and a promoted standby followed."""

from __future__ import annotations

import contextlib

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from relay.application.databases import limit_connections
from relay.config.values import database_url as read_url
from relay.notifier.connection import AsyncConnection, Waker, run
from relay.runtime import Stop
from tests.support.checked import Checked
from tests.support.postgres import PrivatePostgres
from tests.support.standby import PrivateStandby
from tests.support.waiting import eventually


def connecting(url: str) -> Engine:
    """An engine that connects as a relay does."""
    engine = sa.create_engine(read_url(url))
    limit_connections(engine)
    return engine


def port_of(engine: Engine) -> int:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS written (n int)")
        connection.exec_driver_sql("INSERT INTO written VALUES (1)")
        return int(connection.connection.driver_connection.info.port)


def port_of_notifier(engine: Engine) -> int:
    with contextlib.closing(AsyncConnection.open(engine)) as session:
        run(session, None, Waker(), Stop())
        return int(session._connection.info.port)


def test_the_primary_is_found_and_a_promoted_standby_followed(amqp_url: str) -> None:
    with PrivatePostgres() as primary:
        primary.start()
        with PrivateStandby(primary) as standby:
            standby.start()
            hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            url = f"postgresql://postgres@{hosts}/postgres"
            engine = connecting(url)
            assert port_of(engine) == port_of_notifier(engine) == primary.port

            Checked(primary.url, amqp_url).create()
            checked = Checked(read_url(url), amqp_url)
            [told] = [one.problem for one in checked.find("session") if one.code == "database-host"]
            assert told == f"127.0.0.1:{primary.port} has answered, of 127.0.0.1,127.0.0.1"
            reading = f"{url}?target_session_attrs=any"
            eventually(lambda: standby.execute("SELECT to_regclass('written')")[0][0] is not None, 30)
            findings = {one.code: one for one in Checked(read_url(reading), amqp_url).find("session")}
            assert f"127.0.0.1:{standby.port} has answered" in findings["database-host"].problem
            assert findings["database-standby"].level == "error"

            stale = connecting(reading)
            with stale.connect() as connection, pytest.raises(DBAPIError) as raised:
                connection.exec_driver_sql("INSERT INTO written VALUES (2)")
            assert raised.value.connection_invalidated, "its pool would give the same connection again"

            primary.kill9()
            with pytest.raises(OperationalError):
                port_of(engine)
            [told] = [one.problem for one in checked.find("session") if one.code == "database-standby"]
            assert "no host of its URL takes writes" in told
            assert "session is read-only" in told

            standby.execute("SELECT pg_promote()")
            assert port_of(engine) == port_of_notifier(engine) == standby.port
            assert port_of(stale) == standby.port
            for one in (engine, stale):
                one.dispose()
