"""What is relayed: an application, the models of a base class, or tables; and which options are about which of them.

The command line decides; where it does not, the environment does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..application.outbox_tables.names import TableName
from ..application.outbox_tables.rules import NO_FIELD, TableRules, combine
from .options import OPTIONS, TABLE_OPTIONS

#: The fields of the configuration that are about tables without an application.
ABOUT_TABLES = tuple(option.field for option in TABLE_OPTIONS)

#: Those that name tables.
NAMING = frozenset({"table_names", "tables_file"})

#: Those whose problems already name the faulty parts, because there may be several.
TELLING = NAMING | {"assignments", "where", "not_before", "done"}


@dataclass(frozen=True)
class Subject:
    """A kind of what is relayed.

    :param naming: the fields that name it.
    :param fields: all fields that are about it.
    """

    naming: frozenset[str]
    fields: frozenset[str]


TABLES = Subject(NAMING, frozenset(ABOUT_TABLES))
METADATA = Subject(frozenset({"metadata"}), frozenset({"metadata", "imports", "database_url"}))
APP = Subject(frozenset({"app"}), frozenset({"app", "imports"}))

#: What there is none of, where another subject is named.
LACKING = {"app": "application", "imports": "application", "metadata": "base class"}

#: All fields that are about one of them.
ABOUT = APP.fields | METADATA.fields | TABLES.fields


def of_other_subjects(given: Mapping[str, Any], environ: Mapping[str, str]) -> frozenset[str]:
    """The fields that only count when they are on the command line, because they are about another subject."""
    variables = {option.field: option.variable for option in OPTIONS}
    on_command_line = _named(lambda field: bool(given.get(field)))
    named = on_command_line[:1] or _named(lambda field: bool(environ.get(variables[field])))
    # Several in the environment are a contradiction, which is reported.
    return frozenset() if len(named) > 1 else ABOUT - (named[0] if named else APP).fields


def _named(is_given: Callable[[str], bool]) -> list[Subject]:
    return [subject for subject in (TABLES, METADATA, APP) if any(map(is_given, subject.naming))]


def subject_problems(values: dict[str, Any], sources: Mapping[str, str], fallbacks: Collection[str]) -> list[str]:
    """Return which options contradict each other, and leave in ``values`` those that do not.

    :param values: of the options, by field; invalid ones are missing.
    :param sources: the source of each value; those that were not given are missing.
    :param fallbacks: sources that other programs read too, so that their values may not be meant for the relay.
    """
    meant = {field: source for field, source in sources.items() if source not in fallbacks}
    subject = next(iter(_named(sources.__contains__)), APP)
    if subject is APP:
        values["database_url"] = None
        return [*_about_tables(meant, ()), *([] if "app" in sources else [WHICH])]
    naming = next(sources[one.field] for one in OPTIONS if one.field in subject.naming and one.field in sources)
    problems = [
        f"{meant[field]}: with {naming} there is no {lacking}. Give the one or the other."
        for field, lacking in LACKING.items()
        if field in meant and field not in subject.fields
    ]
    values["app"] = ""
    if "database_url" in values and "database_url" not in sources:
        problems.append("--database-url: which database? Give a URL that begins with postgresql://.")
    if subject is METADATA:
        return [*problems, *_about_tables(meant, METADATA.fields)]
    if values.get("where") is not None and values.get("all_rows"):
        problems.append(
            f"{sources['where']}: {sources['all_rows']} says that all rows are meant. Give the one or the other."
        )
    if values.get("all_rows") and values.get("done") not in (None, NO_FIELD):
        problems.append(
            f"{sources['done']}: {sources['all_rows']} says that all rows are meant, also those that are marked. Give "
            "--where with the rows that are to be sent."
        )
    everywhere = TableRules(TableName(None, ""), {})
    given = (values.get("table_names") or (), values.get("tables_file") or (), values.get("assignments") or ())
    return problems + combine(*given, everywhere)[1]


def _about_tables(meant: Mapping[str, str], known: Collection[str]) -> list[str]:
    return [
        f"{meant[field]}: it is about tables that --table names, and there is none."
        for field in ABOUT_TABLES
        if field in meant and field not in known
    ]


#: What is missing where nothing is named.
WHICH = (
    "--app: which application? Give MODULE:ATTRIBUTE, for example --app shop:create_app. Without an application, name "
    "tables: --table orders_outbox; or the base class of models: --metadata shop.models:Base."
)
