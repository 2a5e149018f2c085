"""A standby of a private PostgreSQL, which tells its primary what its readers still need to see."""

from __future__ import annotations

from .postgres import PrivatePostgres


class PrivateStandby(PrivatePostgres):
    """A hot standby.

    :param primary: a server that runs.
    :param slot: a replication slot to make and use; without one, its readers are forgotten when it is gone.
    """

    def __init__(self, primary: PrivatePostgres, slot: str | None = None) -> None:
        self._primary = primary
        self._slot = slot
        feedback = ("hot_standby_feedback=on", "wal_receiver_status_interval=1")
        super().__init__(settings=(*primary.settings, *feedback))

    def _make_data(self) -> None:
        slot = () if self._slot is None else ("-C", "-S", self._slot)
        address = ("-h", "127.0.0.1", "-p", self._primary.port, "-U", "postgres")
        self._give_directory()
        self._run(
            *(self._programs / "pg_basebackup", "-D", self.directory / "data", *address, *slot),
            *("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"),
        )
