"""Maps the columns of a table to fields. Invariant: a field has at most one column, of a type that it accepts.

Pure: it takes the facts of the catalog and the rules, and returns problems instead of raising, so that all problems of
all tables are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from signalbus_core.lowlevel import POSITION, SEND_AFTER

from .catalog import KIND_NAMES, TABLE_KINDS, ColumnFacts, TableFacts
from .field_types import BODIES, FIELD_TYPES, HEADER_PREFIX, INTEGERS, KEY_TYPES, body_field, shown, types_of
from .layouts import LAYOUTS, column_of
from .row_choice.choice import columns_without_rule, not_before_problems, schedule_columns, with_send_after
from .row_choice.done import done_problems
from .row_choice.state_columns import StateColumn
from .rules import NO_FIELD, TableRules


@dataclass(frozen=True)
class Plan:
    """A table and the column of each field.

    :param problems: why it cannot be relayed, one sentence each; empty when it can.
    :param not_before: the columns with a time before which a row is not sent.
    :param columns_without_rule: columns that suggest that not every row is to be sent: it cannot be relayed.
    :param passed_over: columns with a not-before time that the given condition does not name.
    """

    facts: TableFacts
    rules: TableRules
    columns: Mapping[str, ColumnFacts] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    not_before: tuple[ColumnFacts, ...] = ()
    columns_without_rule: tuple[StateColumn, ...] = ()
    passed_over: tuple[StateColumn, ...] = ()


def plan_all(facts: Sequence[TableFacts], rules: Sequence[TableRules]) -> list[Plan]:
    """Plan tables; one table under two names is a problem."""
    plans = [plan(one, of_it) for one, of_it in zip(facts, rules, strict=True)]
    first: dict[int, TableFacts] = {}
    for number, one in enumerate(facts):
        if one.oid is not None and first.setdefault(one.oid, one) is not one:
            text = f"--table {one.name}: it is the same table as {first[one.oid].name}."
            plans[number] = Plan(one, plans[number].rules, {}, (text,))
    return plans


def plan(facts: TableFacts, rules: TableRules) -> Plan:
    """Determine the column of each field of a table."""
    label = f"--table {facts.name}"
    problem = _table_problem(facts)
    if problem is not None:
        return Plan(facts, rules, {}, (f"{label}: {problem}",))
    known = {column.name: column for column in facts.columns}
    if rules.preset is not None:
        rules = replace(rules, not_before=tuple(column_of(name, known) for name in rules.not_before))
    problems = [f"{label}: {text}" for text in _key_problems(facts)]
    if lacking := [word for word in facts.lacking if word != "DELETE" or rules.marks is None]:
        words = ", ".join(lacking)
        problems.append(f"{label}: this login lacks {words} on it. GRANT {words} ON {facts.name} gives it.")
    columns, further = _assign(facts, rules)
    rules = with_send_after(rules, columns.pop(SEND_AFTER, None))
    problems += [
        f"{label}: {text}"
        for text in [
            *further,
            *not_before_problems(facts, rules),
            *done_problems(facts, rules),
            *_order_problems(facts, rules),
        ]
    ]
    used = {column.name for column in columns.values()} | {*rules.order_by, *([POSITION] if rules.order_by else [])}
    times = schedule_columns(facts, rules)
    return Plan(facts, rules, columns, tuple(problems), times, *columns_without_rule(facts, rules, used))


def _table_problem(facts: TableFacts) -> str | None:
    if facts.oid is None:
        others = f" There is {' and '.join(facts.like_named)}." if facts.like_named else ""
        return f"there is no such table.{others} `signalbus-relay ddl outbox {facts.name}` prints one."
    if facts.kind not in TABLE_KINDS:
        return f"it is {KIND_NAMES.get(facts.kind, 'no table')}. Name the table itself."
    return None


def _key_problems(facts: TableFacts) -> list[str]:
    if not facts.key:
        return ["it has no primary key. Without one, a signal cannot be deleted alone."]
    return [
        f"its primary key column {column.name!r} is of type {column.shown_type}; {shown(KEY_TYPES)} is expected."
        for column in facts.key
        if column.type_name not in KEY_TYPES
    ]


def _order_problems(facts: TableFacts, rules: TableRules) -> list[str]:
    if not rules.order_by:
        return []
    known = {column.name: column for column in facts.columns}
    problems = [
        f"order_by: there is no column {name!r}. There are {', '.join(known)}."
        for name in rules.order_by
        if name not in known
    ]
    problems += [
        f"order_by: its column {name!r} is of type {known[name].shown_type}; {shown(KEY_TYPES)} is expected."
        for name in rules.order_by
        if name in known and known[name].type_name not in KEY_TYPES
    ]
    if rules.not_before:
        problems.append(
            f"order_by: a table has no order by key and a schedule (column {rules.not_before[0]!r}) at once. "
            "Schedule rows of another table, and write the ordered ones when they are due."
        )
    if POSITION not in known or known[POSITION].type_name not in INTEGERS:
        keys = "".join(f" --by {name}" for name in rules.order_by)
        problems.append(
            f"order_by: it has no column {POSITION} that holds integers. "
            f"`signalbus-relay ddl order {facts.name}{keys}` prints what adds it."
        )
    return problems


def _assign(facts: TableFacts, rules: TableRules) -> tuple[dict[str, ColumnFacts], list[str]]:
    """The column of each field: first from the rules, then the preset, then columns that are named like a field."""
    known = {column.name: column for column in facts.columns}
    layout = LAYOUTS[rules.preset].fields if rules.preset is not None else {}
    named = {column_of(column, known): name for column, name in layout.items()}
    preset = {column: name for column, name in named.items() if column not in rules.fields}
    problems = [
        f"there is no column {name!r}. There are {', '.join(known)}." for name in rules.fields if name not in known
    ]
    problems += [
        f"the preset {rules.preset} needs a column {name!r}. There are {', '.join(known)}."
        for name in preset
        if name not in known
    ]
    said = {name: to for name, to in {**rules.fields, **preset}.items() if name in known}
    taken = {"body" if to in BODIES else to for to in said.values()}
    named_alike = {
        name: name
        for name in FIELD_TYPES
        if name in known and name not in said and ("body" if name in BODIES else name) not in taken
    }
    meant = {name: to for name, to in {**said, **named_alike}.items() if to != NO_FIELD}
    columns: dict[str, ColumnFacts] = {}
    for name, to in meant.items():
        problems += _add(columns, known[name], to)
    return columns, [*problems, *_gaps(set(meant.values()), rules)]


def _add(columns: dict[str, ColumnFacts], column: ColumnFacts, to: str) -> list[str]:
    if column.type_name not in types_of(to):
        expected = f"for {to} {shown(types_of(to))} is expected. --map {column.name}={NO_FIELD} leaves it alone."
        return [f"its column {column.name!r} is of type {column.shown_type}; {expected}"]
    place = body_field(column.type_name) if to == "body" else to
    if place in columns:
        return [f"its columns {columns[place].name!r} and {column.name!r} are both meant to be {to}."]
    columns[place] = column
    return []


def _gaps(meant: set[str], rules: TableRules) -> list[str]:
    """The fields that rows need and that no column is mapped to."""
    gaps = []
    if "exchange" not in meant and rules.exchange is None:
        gaps.append("it has no column for the exchange. --exchange NAME, or --map COLUMN=exchange, says which.")
    if "routing_key" not in meant and rules.routing_key is None:
        gaps.append("it has no column for the routing key. --routing-key KEY, or --map COLUMN=routing_key, says which.")
    if not meant.intersection(BODIES):
        gaps.append(f"it has no column for the body ({', '.join(BODIES)}). --map COLUMN=body says which.")
    return gaps


def header_of(name: str) -> str | None:
    """The header that a field stands for; None for other fields."""
    return name.removeprefix(HEADER_PREFIX) if name.startswith(HEADER_PREFIX) else None
