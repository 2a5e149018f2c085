"""Sessions of the application in which nothing is written, also not by its own code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from signalbus_core.lowlevel import own_session


@contextmanager
def read_only_session(app: Flask, db: SQLAlchemy) -> Iterator[Session]:
    """A session in which nothing is written, which is ``db.session`` in the block."""
    with own_session(db, app) as session:
        event.listen(session, "after_begin", _make_read_only)
        try:
            yield session
        finally:
            session.rollback()


def _make_read_only(_session: Session, _transaction: Any, connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
