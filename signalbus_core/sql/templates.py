"""SQL texts of statements that differ between models in names only.

SQLAlchemy takes milliseconds to build and compile a statement, which is seconds where there are a thousand models. So
a statement is compiled once for all models of one shape, with placeholders for their names, which are filled in later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import BLANK_SCHEMA, Column, DateTime, MetaData, Table, Text, literal, literal_column
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement, ColumnElement
from sqlalchemy.types import UserDefinedType

from ..model.contract import SignalSpec
from ..schema.own_tables import PARKED, PAUSED
from .key_types import plain_type

#: So many templates are kept. There are a few for each shape of model.
KEPT_TEMPLATES = 1024

#: Begins a placeholder: a name that no table or column has.
_MARK = "Signalbus$"
_PLACEHOLDER = re.compile(rf"""(["'`]?){re.escape(_MARK)}(\w+)\1""")

#: Templates by the shape of a model, the dialect and the variant of the statement.
_templates: dict[Hashable, str] = {}


def placeholder(name: str) -> ColumnElement[Any]:
    """An expression that is passed to :func:`filled` under this name, as SQL."""
    return literal_column(f"{_MARK}{name}")


def filled(
    spec: SignalSpec, dialect: Dialect, variant: Hashable, build: Callable[[SignalSpec], ClauseElement], **given: object
) -> str:
    """The SQL text of a statement about a model, without parameters.

    :param variant: identifies the statement: all that ``build`` depends on beside the model.
    :param build: makes it for a model.
    :param given: the SQL of its placeholders.
    """
    shape = _shape(spec)
    # A model without a shape has templates of its own.
    identity = (spec if shape is None else shape, dialect, variant)
    template = _templates.get(identity)
    if template is None:
        if len(_templates) >= KEPT_TEMPLATES:
            _templates.clear()
        template = _templates[identity] = _template(build(spec if shape is None else _stand_in(spec)), dialect)
    return template.format(**_names(spec, dialect), **given)


@lru_cache(16_384)
def _shape(spec: SignalSpec) -> Hashable | None:
    """What the statements of a model depend on beside its names; None when other models may not share them."""
    kinds = [plain_type(column.type) for column in spec.primary_key]
    if spec.mapper.single or spec.order is not None or any(isinstance(kind, UserDefinedType) for kind in kinds):
        return None
    metadata = spec.table.metadata
    return (
        tuple((type(kind), repr(kind)) for kind in kinds),
        spec.written_at is None,
        spec.condition is None,
        None if spec.schedule is None else (spec.schedule.is_indexed, *(repr(c.type) for c in spec.schedule.columns)),
        metadata.schema,
        *(metadata.info.get(own.name) for own in (PARKED, PAUSED)),
    )


def _stand_in(spec: SignalSpec) -> SignalSpec:
    """A model of the same shape, with placeholders for names."""
    metadata = MetaData(schema=spec.table.metadata.schema, info=spec.table.metadata.info)
    keys = [Column(f"{_MARK}key_{number}", column.type) for number, column in enumerate(spec.primary_key)]
    written_at = None if spec.written_at is None else Column(f"{_MARK}written_at", DateTime(timezone=True))
    times = [Column(f"{_MARK}time_{number}", column.type) for number, column in enumerate(_times(spec))]
    columns = [*keys, *times] if written_at is None else [*keys, *times, written_at]
    table: Any = Table(f"{_MARK}table", metadata, *columns, schema=BLANK_SCHEMA)
    stand_in = replace(spec, model=table, condition=spec.condition and f"{_MARK}condition")
    if spec.schedule is not None:
        stand_in = replace(stand_in, schedule=replace(spec.schedule, columns=tuple(times)))
    # In place of what a mapped class has.
    vars(stand_in).update(table=table, primary_key=tuple(keys), written_at_column=written_at)
    return stand_in


def _times(spec: SignalSpec) -> tuple[Column[Any], ...]:
    return () if spec.schedule is None else spec.schedule.columns


def _template(statement: ClauseElement, dialect: Dialect) -> str:
    text = _text(statement, dialect).replace("{", "{{").replace("}", "}}")
    return _PLACEHOLDER.sub(lambda found: f"{{{'name' if found[1] == chr(39) else found[2]}}}", text)


@lru_cache(16_384)
def _names(spec: SignalSpec, dialect: Dialect) -> dict[str, str]:
    """The SQL of the placeholders of :func:`_stand_in`."""
    preparer = dialect.identifier_preparer
    names = {f"key_{number}": preparer.quote(column.name) for number, column in enumerate(spec.primary_key)}
    names |= {f"time_{number}": preparer.quote(column.name) for number, column in enumerate(_times(spec))}
    names |= {"table": preparer.format_table(spec.table), "name": _text(literal(spec.table.fullname, Text()), dialect)}
    if spec.written_at_column is not None:
        names["written_at"] = preparer.quote(spec.written_at_column.name)
    if spec.condition is not None:
        names["condition"] = _text(literal_column(spec.condition), dialect)
    return names


def _text(element: ClauseElement, dialect: Dialect) -> str:
    return str(element.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
