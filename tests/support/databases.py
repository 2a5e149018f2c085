"""Databases that tests use one after another.

To create a database copies a thousand files, and later each of them is visited by autovacuum. So a database that a test
has given back is emptied and lent again. What a test can see of it is that of a new one: nobody is connected, it has a
name that nobody knows, and nothing is in it. One that cannot be emptied is dropped.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2

#: A database is dropped after so many tests: what they have dropped stays in its system catalogs until it is vacuumed.
TESTS_PER_DATABASE = 40

DISCONNECT = """
    SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
    WHERE datname = %s AND backend_type = 'client backend'
"""

#: All that lies in schemas goes with them.
SCHEMAS = "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"

#: As ``initdb`` makes it.
PUBLIC = """
    CREATE SCHEMA public{owner};
    GRANT {privileges} ON SCHEMA public TO PUBLIC;
    COMMENT ON SCHEMA public IS 'standard public schema'
"""

#: Whether there is something that lies in no schema, or the database itself is not as a new one.
IS_CHANGED = """
    SELECT EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
        OR EXISTS (SELECT FROM pg_event_trigger)
        OR EXISTS (SELECT FROM pg_language WHERE oid >= 16384)
        OR EXISTS (SELECT FROM pg_cast WHERE oid >= 16384)
        OR EXISTS (SELECT FROM pg_am WHERE oid >= 16384)
        OR EXISTS (SELECT FROM pg_foreign_data_wrapper)
        OR EXISTS (SELECT FROM pg_publication)
        OR EXISTS (SELECT FROM pg_default_acl)
        OR EXISTS (SELECT FROM pg_largeobject_metadata)
        OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
        OR EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
        OR EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = d.oid)
        OR d.datacl IS NOT NULL OR d.datconnlimit <> -1 OR pg_get_userbyid(d.datdba) <> current_user
    FROM pg_database d WHERE d.datname = current_database()
"""


def new_name() -> str:
    """For a database that no other one is taken for."""
    return f"test_{uuid.uuid4().hex[:12]}"


class Databases:
    """The databases of one server.

    :param connect: connects to the database with this name.
    :param maintenance: the database from which others are created.
    """

    def __init__(self, connect: Callable[[str], Any], maintenance: str) -> None:
        self._connect = connect
        self._maintenance = maintenance
        self._session: Any = None
        #: Given back, with how many tests have had them.
        self._returned: list[tuple[str, int]] = []

    def create(self) -> str:
        """Create an empty database, which stays; return its name."""
        name = new_name()
        self._execute(f'CREATE DATABASE "{name}"')
        return name

    @contextlib.contextmanager
    def lend(self) -> Iterator[str]:
        """The name of an empty database, for the time of the block."""
        name, tests = self._emptied() or (self.create(), 0)
        try:
            yield name
        finally:
            self._returned.append((name, tests + 1))

    def drop(self, name: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def drop_returned(self) -> None:
        """Drop those that were given back."""
        while self._returned:
            self.drop(self._returned.pop()[0])

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _emptied(self) -> tuple[str, int] | None:
        while self._returned:
            former, tests = self._returned.pop()
            name = new_name()
            try:
                # A client that was forgotten would find another test's data by the old name.
                self._execute(DISCONNECT, (former,))
                self._execute(f'ALTER DATABASE "{former}" RENAME TO "{name}"')
            except psycopg2.Error:
                name = former
            else:
                if tests < TESTS_PER_DATABASE and self._is_emptied(name):
                    return name, tests
            self.drop(name)
        return None

    def _is_emptied(self, name: str) -> bool:
        """Remove all that is in a database; say whether it is as a new one then."""
        try:
            with contextlib.closing(self._connect(name)) as session, session.cursor() as cursor:
                cursor.execute(SCHEMAS)
                schemas = ", ".join(schema for [schema] in cursor)
                if schemas:
                    cursor.execute(f"DROP SCHEMA {schemas} CASCADE")
                is_owned = session.server_version >= 15_00_00
                owner, privileges = (" AUTHORIZATION pg_database_owner", "USAGE") if is_owned else ("", "ALL")
                cursor.execute(PUBLIC.format(owner=owner, privileges=privileges))
                cursor.execute(IS_CHANGED)
                [[is_changed]] = cursor.fetchall()
                session.commit()
                return not is_changed
        except psycopg2.Error:
            return False

    def _execute(self, statement: str, values: tuple[Any, ...] | None = None) -> None:
        if self._session is None:
            self._session = self._connect(self._maintenance)
            self._session.autocommit = True
        with self._session.cursor() as cursor:
            cursor.execute(statement, values)
