"""What is to be relayed: the models of an application, or tables without one. Not both, and not neither."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from .names import TableName
from .rules import TableRules, combine

#: The fields of the configuration that are about tables without an application.
ABOUT_TABLES = (
    "table_names",
    "tables_file",
    "assignments",
    "preset",
    "exchange",
    "routing_key",
    "where",
    "not_before",
    "all_rows",
    "database_url",
)

#: Those that name tables.
NAMING = frozenset({"table_names", "tables_file"})

#: Those whose problems name what is wrong themselves, because several things may be.
TELLING = NAMING | {"assignments", "where", "not_before"}


def subject_problems(values: dict[str, Any], sources: Mapping[str, str], fallbacks: Collection[str]) -> list[str]:
    """Say what does not go together, and leave in ``values`` what does.

    :param values: of the options, by field; those that cannot be used are missing.
    :param sources: where each value was given; what was not given is missing.
    :param fallbacks: sources that others use too, so that what they say may be meant for others.
    """
    meant = {field: source for field, source in sources.items() if source not in fallbacks}
    if not NAMING & {*sources}:
        values["database_url"] = None
        problems = [
            f"{meant[field]}: it is about tables that --table names, and there is none."
            for field in ABOUT_TABLES
            if field in meant
        ]
        if "app" not in sources:
            problems.append(
                "--app: which application? Give MODULE:ATTRIBUTE, for example --app shop:create_app. Without an "
                "application, name tables: --table orders_outbox."
            )
        return problems
    naming = next(sources[field] for field in ABOUT_TABLES if field in sources)
    problems = [
        f"{meant[field]}: with {naming} there is no application. Give the one or the other."
        for field in ("app", "imports")
        if field in meant
    ]
    values["app"] = ""
    if "database_url" in values and "database_url" not in sources:
        problems.append("--database-url: which database? Give a URL that begins with postgresql://.")
    if values.get("where") is not None and values.get("all_rows"):
        problems.append(
            f"{sources['where']}: {sources['all_rows']} says that all rows are meant. Give the one or the other."
        )
    everywhere = TableRules(TableName(None, ""), {})
    given = (values.get("table_names") or (), values.get("tables_file") or (), values.get("assignments") or ())
    return problems + combine(*given, everywhere)[1]
