"""The tables of docs/reference/ that come from the code. ``python -m tests.support.reference`` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from relay.application.outbox_tables.field_types import shown
from relay.application.outbox_tables.row_choice import state_columns
from relay.application.outbox_tables.row_choice.state_columns import Meaning
from relay.checks.finding import AREAS, KINDS
from relay.checks.versions import (
    LIBRARIES,
    OLDEST_RABBITMQ,
    TESTED_POSTGRESQL,
    TESTED_PYTHON,
    dotted,
    postgresql_end,
    python_end,
)
from relay.config.options import OPTIONS
from relay.config.values import HttpAddress
from relay.telemetry.metrics import Metrics
from relay.web.openapi import document
from tests.support import http_reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def options_table() -> list[str]:
    rows = ["| option | environment | default | meaning |", "| --- | --- | --- | --- |"]
    for option in OPTIONS:
        name = f"`--{option.name}" + (f" {option.metavar}`" if option.metavar else "`")
        variable = f"`{option.variable}`" + (" (`_FILE`)" if option.is_secret else "")
        rows.append(f"| {name} | {variable} | {_default(option.default)} | {option.help} |")
    return rows


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, HttpAddress):
        return f"`{value.host}:{value.port}`"
    if isinstance(value, bool):
        return "no"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def metrics_table() -> list[str]:
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    registry = CollectorRegistry()
    Metrics(registry).prepare(["model"])
    for family in sorted(registry.collect(), key=lambda family: family.name):
        if not family.name.startswith("signalbus_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        shown = ", ".join(f"`{label}`" + _values(family.samples, label) for label in labels)
        rows.append(f"| `{name}` | {family.type} | {shown} | {family.documentation} |")
    return rows


def _values(samples: list[object], label: str) -> str:
    if label in ("signal", "version"):
        return ""
    values = dict.fromkeys(sample.labels[label] for sample in samples)  # type: ignore[attr-defined]
    return " (" + ", ".join(values) + ")"


def findings_table() -> list[str]:
    rows = ["| area | code | level | found when |", "| --- | --- | --- | --- |"]
    for area in (*AREAS, ""):
        for code, kind in KINDS.items():
            if kind.area == area:
                rows.append(f"| {area or 'any'} | `{code}` | {kind.level} | {kind.meaning} |")
    return rows


def support_table() -> list[str]:
    rows = ["| version | in support |", "| --- | --- |"]
    rows += [f"| PostgreSQL {major} | until {postgresql_end(major)} |" for major in TESTED_POSTGRESQL]
    rows += [f"| Python 3.{minor} | until {python_end(minor)} |" for minor in TESTED_PYTHON]
    rows.append(f"| RabbitMQ | {dotted(OLDEST_RABBITMQ)} or newer |")
    rows += [f"| {name} | {dotted(first)} or newer, before {dotted(end)} |" for name, (first, end) in LIBRARIES.items()]
    return rows


def state_columns_table() -> list[str]:
    rows = ["| looks like | names | of type |", "| --- | --- | --- |"]
    again = "next_attempt next_retry next_try next_run"
    names = {
        Meaning.STATE: f"status state {state_columns.DONE} {state_columns.STATES}",
        Meaning.SENT: state_columns.DONE,
        Meaning.OWNER: f"{state_columns.OWNERS} owner_id",
        Meaning.NOT_BEFORE: f"{state_columns.NOT_BEFORE} {again}",
        Meaning.READY: state_columns.READY,
        Meaning.POSITION: state_columns.POSITIONS,
    }
    for meaning, listed in names.items():
        shown_names = ", ".join(f"`{name}`" for name in sorted(set(listed.split())))
        rows.append(f"| {meaning.value} | {shown_names} | {shown(state_columns.TYPES[meaning])} |")
    return rows


def updated(text: str) -> str:
    """A page with its tables as the code has them now."""
    for name, table in TABLES.items():
        block = f"<!-- {name} -->\n" + "\n".join(table()) + f"\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def endpoints_table() -> list[str]:
    rows = ["| path | method | does |", "| --- | --- | --- |"]
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            token = " Needs the token." if method == "post" else ""
            rows.append(f"| `{path}` | {method.upper()} | {operation['summary']}{token} |")
    return rows


#: Where ``<!-- name -->`` and ``<!-- /name -->`` stand in a page, this table stands between them.
TABLES = {
    "endpoints": endpoints_table,
    "options": options_table,
    "metrics": metrics_table,
    "findings": findings_table,
    "support": support_table,
    "state-columns": state_columns_table,
    "http-operations": http_reference.operations,
    "http-schemas": http_reference.schemas,
}


if __name__ == "__main__":
    for page in REFERENCE.glob("*.md"):
        page.write_text(updated(page.read_text()))
