"""Statements about a table that ``create_all()`` runs and migrations print: trigger functions and triggers.

Each can be run again: it replaces what an older version has made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement

from .quoting import PLAIN


class TableStatement(ExecutableDDLElement):
    """A statement about a table.

    :param text_of: returns its text, given a compiler; its ``preparer`` quotes names and translates schemas.
    """

    def __init__(self, table: Table, text_of: Callable[[Any], str]) -> None:
        self.table = table
        self.text_of = text_of

    def __str__(self) -> str:
        """Its text for PostgreSQL, as migrations have it."""
        return str(self.compile(dialect=PLAIN))


@compiles(TableStatement)
def _compile(element: TableStatement, compiler: Any, **_: Any) -> str:
    return element.text_of(compiler)


def function_statement(table: Table, name: str, source: str, options: str = "") -> TableStatement:
    """Creates a trigger function in the schema of a table."""

    def text_of(compiler: Any) -> str:
        body = source.replace("%", "%%") if compiler.preparer._double_percents else source
        return (
            f"CREATE OR REPLACE FUNCTION {function_of(table, name, compiler)}() RETURNS trigger LANGUAGE plpgsql "
            f"{options}AS $signalbus${body}$signalbus$"
        )

    return TableStatement(table, text_of)


def trigger_statement(
    table: Table, name: str, function: str, event: str, each: str, when: Callable[[Any], str] = lambda _: ""
) -> TableStatement:
    """Creates a trigger. It waits for writers of the table, not for readers.

    :param function: the name of its function.
    :param event: as ``AFTER INSERT``.
    :param each: ``ROW`` or ``STATEMENT``.
    :param when: returns its further condition, given a compiler.
    """

    def text_of(compiler: Any) -> str:
        return (
            f"CREATE OR REPLACE TRIGGER {name} {event} ON {compiler.preparer.format_table(table)} FOR EACH {each} "
            f"{when(compiler)}EXECUTE FUNCTION {function_of(table, function, compiler)}()"
        )

    return TableStatement(table, text_of)


def function_of(table: Table, name: str, compiler: Any) -> str:
    # Formatted like a table, so that schema translation and quoting are the same.
    return str(compiler.preparer.format_table(Table(name, MetaData(), schema=table.schema)))
