"""What an error tells of a database: that it is lost, that it refuses the login, or neither."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from relay.application.databases import is_refused_login
from signalbus_core.lowlevel import is_away, is_lost

AT = 'connection to server at "{}" (10.0.0.1), port 5432 failed: '


class DriverError(Exception):
    def __init__(self, text: str = "", sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(text)


def error(text: str = "", sqlstate: str | None = None, *, is_invalid: bool = False) -> DBAPIError:
    return OperationalError("SELECT 1", {}, DriverError(text, sqlstate), connection_invalidated=is_invalid)


@pytest.mark.parametrize(
    "text",
    [
        "FATAL:  the database system is starting up",
        "FATAL:  Das Datenbanksystem startet",
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
        "FATAL:  server login has been failing, cached error: password authentication failed (server_login_retry)",
        "Connection refused",
    ],
)
def test_what_may_soon_end_is_no_refused_login(text: str) -> None:
    assert not is_refused_login(error(AT.format("a") + text))
    assert not is_refused_login(error(text))


@pytest.mark.parametrize(
    "text",
    [
        'FATAL:  password authentication failed for user "relay"',
        "FATAL:  kein pg_hba.conf-Eintrag für Host",
        'FATAL:  database "shop" does not exist',
    ],
)
def test_a_login_that_stays_refused_is_recognized(text: str) -> None:
    assert is_refused_login(error(text))
    assert is_refused_login(error(AT.format("a") + text))
    # The first address of the host does not answer; it is the same server.
    assert is_refused_login(error(f"{AT.format('a')}Connection refused\n{AT.format('a')}{text}"))
    assert not is_refused_login(error(f"{AT.format('a')}Connection refused\n{AT.format('b')}{text}"))


def test_a_code_tells_more_than_the_text() -> None:
    assert is_refused_login(error("Passwort falsch", "28P01"))
    assert not is_refused_login(error("authentication failed", "57P03"))


@pytest.mark.parametrize("found", [error(), error(sqlstate="57P01"), error(sqlstate="57P03"), error(is_invalid=True)])
def test_a_lost_connection_stops_the_models_of_its_database(found: DBAPIError) -> None:
    assert is_lost(found)
    assert is_away(found)


@pytest.mark.parametrize("found", [PoolTimeoutError(), error(sqlstate="53200"), error(sqlstate="53100")])
def test_what_one_statement_lacks_does_not_stop_other_models(found: Exception) -> None:
    assert is_away(found)
    assert not is_lost(found)
