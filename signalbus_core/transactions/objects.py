"""The objects of a session around an atomic block: what could be read before it can be read after it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, Mapper, Session

from ..sessions import engines_in_use, note_commit_in_parts


def what_is_loaded(session: Session) -> dict[InstanceState[Any], Collection[str]]:
    """The objects in the session, and their attributes that are loaded, or that an earlier commit has expired."""
    loaded: dict[InstanceState[Any], Collection[str]] = {}
    usual: dict[Mapper[Any], set[str]] = {}
    for state in map(inspect, session):
        mapper = state.mapper
        if mapper not in usual:
            usual[mapper] = _usually_loaded(mapper)
        loaded[state] = (state.dict.keys() & mapper.attrs.keys()) | (state.expired_attributes & usual[mapper])
    return loaded


def _usually_loaded(mapper: Mapper[Any]) -> set[str]:
    # Which of the expired attributes had been loaded is not known. Collections and deferred columns may be large.
    related = (
        one.key for one in mapper.relationships if not one.uselist and one.lazy in ("select", "joined", "selectin")
    )
    return {one.key for one in mapper.column_attrs if not one.deferred}.union(related)


def load_again(session: Session, loaded: Mapping[InstanceState[Any], Collection[str]]) -> list[Any]:
    """Load again the attributes that could be read before the block and expired since, by a rollback or a commit.

    :returns: the objects of databases that the transaction has not used, and must not connect to for this.
    """
    kept: list[Any] = []
    for state, names in loaded.items():
        missing = [name for name in names if name not in state.dict]
        if not missing or not state.persistent or state.session is not session:
            continue
        if session.get_bind(mapper=state.mapper).engine not in engines_in_use(session):
            kept.append(state.obj())
            continue
        # Not by reading the attributes: lazy="raise" and raiseload refuse that. Its row may be gone.
        with suppress(InvalidRequestError):
            session.refresh(state.obj(), missing)
    return kept


def commit_and_expunge(session: Session, keep: Collection[Any]) -> None:
    note_commit_in_parts(session)
    expires = session.expire_on_commit
    # Expired objects could not be read after the commit. If objects were expunged before it, a repeated execution would
    # change detached objects, and the changes would be lost.
    session.expire_on_commit = False
    try:
        session.commit()
    finally:
        session.expire_on_commit = expires
    session.expunge_all()
    session.add_all(keep)
