"""Which binds are one database: by their URLs, and, where these differ, by asking the servers.

Two models on one table send its rows as one or the other by chance, under whatever address each finds the table.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import SQLAlchemyError

from ..failures import error_text
from ..model.contract import SignalSpec
from .catalog import table_owners

logger = logging.getLogger("signalbus")


def address(engine: Engine) -> URL:
    """The URL without the login: two binds may be one database with different users."""
    return engine.url.set(username=None, password=None)


def owners_elsewhere(
    specs: Sequence[SignalSpec], engines: Mapping[str | None, Engine], bind_key: str | None
) -> dict[str, str]:
    """The :func:`table_owners` of binds at other addresses, as far as their databases have the name of this one.

    A bind that is away has none: most likely it is not this database, which is not away.

    :param specs: all signal models.
    :param engines: of each bind key.
    """
    here = address(engines[bind_key])
    owners: dict[str, str] = {}
    for other in dict.fromkeys(spec.bind_key for spec in specs):
        there = address(engines[other])
        if there == here or there.database != here.database:
            continue
        try:
            with engines[other].connect() as connection:
                owners |= table_owners(connection, [spec for spec in specs if spec.bind_key == other])
        except SQLAlchemyError as error:
            logger.debug("The bind %s cannot be asked: %s", other, error_text(error))
    return owners
