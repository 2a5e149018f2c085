"""Refuses mappings that cannot be signal models, each with the reason and the remedy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ARRAY, Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper

from ..errors import SignalModelError


def refuse_unknown_classes(mapper: Mapper[Any], name: str) -> None:
    """Where classes share a table, a row must identify its class, whose methods send it."""
    for one in mapper.self_and_descendants:
        if not one.single or one.inherits is None:
            continue
        if one.polymorphic_on is None:
            raise SignalModelError(
                f"{name}: {one.class_.__name__} shares a table with {one.inherits.class_.__name__}, and nothing tells "
                "their rows apart. Give the parent polymorphic_on, and each class a polymorphic_identity."
            )
        if one.polymorphic_identity is None and not one.polymorphic_abstract:
            raise SignalModelError(
                f"{name}: {one.class_.__name__} has no polymorphic_identity, so its rows are taken for those of "
                "another class. Give it one, or polymorphic_abstract=True where it has no rows."
            )


def refuse_other_selectables(mapper: Mapper[Any], name: str) -> None:
    """Rows of a join, a query or a union cannot be locked and deleted in one table."""
    if not isinstance(mapper.local_table, Table) or mapper.selectable is not mapper.local_table:
        raise SignalModelError(
            f"{name} is not mapped to one table: it is loaded from a join, a union or a query, as in concrete-table "
            "inheritance. Give each signal model a table of its own; share columns through a mixin or an abstract base "
            "(__abstract__ = True)."
        )


def refuse_compound_keys(mapper: Mapper[Any], name: str) -> None:
    """A key is selected among many, as an element of an array, and is looked up in dictionaries."""
    for column in mapper.primary_key:
        kind = getattr(column.type, "impl", column.type)
        if isinstance(kind, ARRAY) or not getattr(column.type, "hashable", True):
            raise SignalModelError(
                f"{name}: the key column {column.name!r} is of the type {type(column.type).__name__}, which cannot be "
                "the key of a signal model. Give the table another primary key, for example a BIGINT identity, and "
                "make this column unique."
            )


def refuse_joined_inheritance(mapper: Mapper[Any], name: str) -> None:
    """A row spread over several tables cannot be deleted by one statement with one count."""
    try:
        related = [mapper, *mapper.self_and_descendants]
    except SQLAlchemyError as error:
        raise SignalModelError(f"{name} cannot be mapped: {error}") from error
    for one in related:
        if one.inherits is not None and not one.single and not one.concrete:
            raise SignalModelError(
                f"{name} is spread over several tables by joined-table inheritance ({one.class_.__name__}). "
                "Give each signal model a table of its own; share columns through a mixin or an abstract base."
            )
