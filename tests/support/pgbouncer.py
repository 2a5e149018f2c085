"""A private PgBouncer in front of a private PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg2

from .postgres import PrivatePostgres
from .private_process import PrivateProcess, required
from .programs import free_port

PLACES = ("/usr/sbin", "/usr/bin", "/opt/homebrew/opt/pgbouncer/bin", "/usr/local/opt/pgbouncer/bin")


class PrivatePgBouncer(PrivateProcess):
    """A PgBouncer in transaction mode: clients share a few server connections, each for a transaction at a time.

    :param pool_size: server connections for each database and user.
    :param users: who may come in, without a password.
    :param settings: further lines of its configuration file, as ``name = value``.
    """

    name = "PgBouncer"
    # PgBouncer refuses to run as root. Asked to stop, it stops at once, with all connections.
    account = "postgres"

    def __init__(
        self,
        postgres: PrivatePostgres,
        *,
        pool_size: int = 2,
        users: Sequence[str] = ("postgres",),
        settings: Sequence[str] = (),
    ) -> None:
        self._program = required("pgbouncer", self.name, *PLACES)
        super().__init__()
        self._postgres = postgres
        self.port = free_port()
        (self.directory / "userlist.txt").write_text("".join(f'"{user}" ""\n' for user in users))
        (self.directory / "pgbouncer.ini").write_text("\n".join([*self._configuration(pool_size), *settings, ""]))
        self._give_directory()

    def in_front_of(self, url: str) -> str:
        """The URL that leads to the same database through this PgBouncer."""
        return url.replace(f":{self._postgres.port}/", f":{self.port}/")

    def _command(self) -> Sequence[object]:
        return [self._program, self.directory / "pgbouncer.ini"]

    def _configuration(self, pool_size: int) -> list[str]:
        return [
            "[databases]",
            f"* = host=127.0.0.1 port={self._postgres.port}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "auth_type = trust",
            f"auth_file = {self.directory}/userlist.txt",
            "pool_mode = transaction",
            f"default_pool_size = {pool_size}",
            "max_client_conn = 200",
        ]

    def _answers(self) -> bool:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=5
            ).close()
        except psycopg2.OperationalError:
            return False
        return True
