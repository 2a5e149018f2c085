"""The rules for tables from the command line or a file: the fields of columns, defaults, and which rows are sent."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .field_types import ALIASES, FIELD_TYPES, HEADER_PREFIX, is_field
from .layouts import LAYOUTS
from .names import TableName, join_name, split_name

#: In place of a field: the column is ignored.
NO_FIELD = "-"

#: In place of a column: what is assigned is the key by which the signals of a table are ordered.
ORDER_BY = "order_by"


@dataclass(frozen=True)
class Assignment:
    """A column and its field.

    :param table: the only table to which it applies, as the parts of its name; () for all tables.
    """

    table: tuple[str, ...]
    column: str
    field: str

    def is_about(self, name: TableName) -> bool:
        parts = (name.name,) if name.schema is None else (name.schema, name.name)
        return self.table in ((), parts)


@dataclass(frozen=True)
class TableRules:
    """A table and its rules.

    :param fields: the given fields by column; :data:`NO_FIELD` for columns to ignore.
    :param preset: a layout; ``fields`` takes precedence.
    :param exchange: of rows without one.
    :param routing_key: of rows without one.
    :param where: a condition in SQL of the rows that are sent.
    :param not_before: columns with a time before which a row is not sent.
    :param all_rows: every row is sent, whatever its columns hold.
    :param done: what marks a sent row, as assignments of SQL; :data:`NO_FIELD` where it is deleted, whatever the layout
      says.
    :param order_by: the columns of the key by which rows are ordered.
    :param keep_days: for how many days what was sent is kept; None: it is not.
    """

    name: TableName
    fields: Mapping[str, str]
    preset: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    where: str | None = None
    not_before: tuple[str, ...] = ()
    all_rows: bool | None = None
    done: str | None = None
    keep_days: int | None = None
    order_by: tuple[str, ...] = ()

    @property
    def marks(self) -> str | None:
        """What marks a sent row; None where it is deleted."""
        return None if self.done == NO_FIELD else self.done

    def with_layout(self) -> TableRules:
        """These rules, with those of the layout for what is not set here."""
        layout = LAYOUTS.get(self.preset or "")
        if layout is None:
            return self
        is_chosen = self.where is not None or bool(self.all_rows)
        return replace(
            self,
            where=self.where if is_chosen else layout.where,
            done=layout.done if self.done is None and not self.all_rows else self.done,
            not_before=self.not_before or layout.not_before,
        )

    def filled_in(self, other: TableRules) -> TableRules:
        """These rules, with the others for what is not set here."""
        # ``where`` and ``all_rows`` are two forms of one rule: take both from one source.
        rows = other if self.where is None and self.all_rows is None else self
        return replace(
            self,
            fields={**other.fields, **self.fields},
            preset=other.preset if self.preset is None else self.preset,
            exchange=other.exchange if self.exchange is None else self.exchange,
            routing_key=other.routing_key if self.routing_key is None else self.routing_key,
            where=rows.where,
            not_before=self.not_before or other.not_before,
            all_rows=rows.all_rows,
            done=other.done if self.done is None else self.done,
            order_by=self.order_by or other.order_by,
            keep_days=other.keep_days if self.keep_days is None else self.keep_days,
        )


def combine(
    names: Sequence[TableName],
    of_file: Sequence[TableRules],
    assignments: Sequence[Assignment],
    everywhere: TableRules,
) -> tuple[list[TableRules], list[str]]:
    """The tables with their combined rules, and the problems of these.

    :param names: tables that were given by name only.
    :param of_file: tables that were given in a file, whose rules take precedence.
    :param everywhere: the rules for all tables.
    """
    given = [*(TableRules(name, {}) for name in names), *of_file]
    problems = [
        f"--table {name}: it is given twice." for name, count in _count(one.name.fullname for one in given) if count > 1
    ]
    rules: list[TableRules] = []
    for one in given:
        own = [rule for rule in assignments if rule.is_about(one.name)]
        # A rule for one table takes precedence over a rule for all.
        fields = {rule.column: rule.field for rule in sorted(own, key=lambda rule: bool(rule.table))}
        order_by = fields.pop(ORDER_BY, None)
        keys = () if order_by is None else column_names(order_by)
        rules.append(one.filled_in(replace(everywhere, fields=fields, order_by=keys)).with_layout())
    problems += [
        f"--map {join_name(*rule.table, rule.column)}={rule.field}: there is no --table {join_name(*rule.table)}."
        for rule in assignments
        if rule.table and not any(rule.is_about(one.name) for one in given)
    ]
    twice = _count((rule.table, rule.column) for rule in assignments)
    problems += [f"--map {join_name(*table, column)}: it is given twice." for (table, column), n in twice if n > 1]
    return rules, problems


def _count(things: Iterable[Any]) -> list[tuple[Any, int]]:
    return list(Counter(things).items())


def assignment(text: str) -> Assignment:
    """Read ``COLUMN=FIELD``, ``TABLE.COLUMN=FIELD``, or ``order_by=COLUMN,COLUMN`` with or without a table.

    :raises ValueError: it is none, or there is no such field.
    """
    found = re.fullmatch(r'((?:"(?:[^"]|"")*"|[^"=])+)=(.+)', text.strip())
    if found is None:
        raise ValueError(f"COLUMN=FIELD is expected, for example payload=body, not {text!r}")
    *table, column = split_name(found[1].strip())
    if len(table) > 2:
        raise ValueError(f"{found[1]!r} has too many parts; COLUMN or TABLE.COLUMN is expected")
    if column == ORDER_BY:
        column_names(found[2])
        return Assignment(tuple(table), column, found[2].strip())
    return Assignment(tuple(table), column, field_name(found[2].strip()))


def column_names(text: str) -> tuple[str, ...]:
    """The names of columns, with commas between them.

    :raises ValueError: it is no such list.
    """
    return tuple(column_name(one) for one in re.findall(r'(?:"(?:[^"]|"")*"|[^",])+', text))


def column_name(text: str) -> str:
    """The name of a column of any table.

    :raises ValueError: it is none.
    """
    parts = split_name(text)
    if len(parts) != 1:
        raise ValueError(f"{text!r} has {len(parts)} parts; the name of a column is expected")
    return parts[0]


def field_name(text: str) -> str:
    """The name of a field.

    :raises ValueError: there is no such field.
    """
    text = ALIASES.get(text, text)
    if text != NO_FIELD and not is_field(text):
        raise ValueError(
            f"there is no field {text!r}; there are {', '.join(FIELD_TYPES)}, {HEADER_PREFIX}NAME for a header of its "
            f"own, and {NO_FIELD} for none"
        )
    return text
