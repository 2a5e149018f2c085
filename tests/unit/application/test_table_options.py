"""What may be said of tables without an application, and how it is told what cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.application.outbox_tables.names import TableName, split_name, table_name
from relay.application.outbox_tables.row_choice.done import assignments
from relay.application.outbox_tables.row_choice.where import condition
from relay.application.outbox_tables.rules import TableRules
from relay.config.resolve import ConfigError, RelayConfig, resolve

URL = {"database_url": "postgresql://u:p@h/d"}


def tables(*names: str, **given: Any) -> RelayConfig:
    return resolve({**URL, "table_names": names, **given}, {})


def problems(environ: dict[str, str] | None = None, **given: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        resolve({name: value for name, value in given.items() if value is not None}, environ or {})
    return list(raised.value.problems)


@pytest.mark.parametrize(
    ("text", "parts", "shown"),
    [
        ("orders", ["orders"], "orders"),
        ("sales.Orders", ["sales", "Orders"], "sales.Orders"),
        ('"odd.name"', ["odd.name"], '"odd.name"'),
        ('sales."say ""hi"""', ["sales", 'say "hi"'], 'sales."say ""hi"""'),
        ("größe mit leer", ["größe mit leer"], "größe mit leer"),
    ],
)
def test_a_name_is_exact_and_may_have_a_schema_and_quotes(text: str, parts: list[str], shown: str) -> None:
    assert split_name(text) == parts
    assert str(table_name(text)) == shown


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"', '"a', 'a"b', '""', "a.b.c"])
def test_what_is_no_name_of_a_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no name|3 parts"):
        table_name(text)


def test_a_database_url_whose_file_is_missing_is_one_problem_and_not_two(tmp_path: Path) -> None:
    variable = "SIGNALBUS_RELAY_DATABASE_URL_FILE"
    environ = {variable: str(tmp_path / "none"), "DATABASE_URL": "postgresql://h/d"}
    [problem] = problems(environ, table_names=("orders",))
    assert problem.startswith(f"{variable}: the file {tmp_path / 'none'} cannot be read")
    [problem] = problems({variable: "postgresql://u:geheim@h/d"}, table_names=("orders",))
    assert problem.startswith(f"{variable}: the file cannot be read")


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql://u:ge@heim@h/d", "@ as %40"),
        ("postgresql://u:ge@he/im@h/d", "@ as %40, / as %2F"),
        ("postgresql://u:g@e:heim@h/d", "@ as %40"),
    ],
)
def test_password_of_database_that_must_be_escaped_is_told(url: str, advice: str) -> None:
    [problem] = problems({"DATABASE_URL": url}, table_names=("orders",))
    assert problem.startswith("DATABASE_URL: ")
    assert f"write {advice}." in problem
    assert "heim" not in problem


def test_a_broker_among_several_that_cannot_be_read_is_named_at_the_start() -> None:
    environ = {"DATABASE_URL": "postgresql://h1,h2/d", "AMQP_URL": "amqp://a/,amqp://u:geheim@b:port/"}
    with pytest.raises(ConfigError) as raised:
        resolve({"table_names": ("orders",)}, environ, broker_variables=("AMQP_URL",))
    [problem] = raised.value.problems
    assert problem.startswith("AMQP_URL: the RabbitMQ URL 2 of 2 cannot be used")
    assert "geheim" not in problem


@pytest.mark.parametrize("variable", ["SIGNALBUS_RELAY_AMQP_URL", "SIGNALBUS_RELAY_AMQP_URL_FILE"])
def test_variable_that_was_read_is_named(variable: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://u:ge/heim@h/")
    given = str(tmp_path / "url") if variable.endswith("_FILE") else "amqp://u:ge/heim@h/"
    [problem] = problems({variable: given, "AMQP_URL": "amqp://h/"}, app="shop")
    assert problem.startswith(f"{variable}: the RabbitMQ URL ")
    assert "must be escaped: write / as %2F" in problem
    assert "heim" not in problem


def test_tables_may_be_listed_in_environment_with_quotes() -> None:
    config = resolve(URL, {"SIGNALBUS_RELAY_TABLE": 'orders, sales.x,"a, b"'})
    assert config.table_names == (TableName(None, "orders"), TableName("sales", "x"), TableName(None, "a, b"))
    assert [str(rules.name) for rules in config.table_rules] == ["orders", "sales.x", "a, b"]


def test_columns_are_mapped_for_all_tables_or_for_one() -> None:
    config = tables(
        "orders", "sales.x", assignments=("payload=body", "orders.payload=body_text", 'sales.x."a=b"=headers.tenant')
    )
    assert [rules.fields for rules in config.table_rules] == [
        {"payload": "body_text"},
        {"payload": "body", "a=b": "headers.tenant"},
    ]


def test_the_exchange_and_the_routing_key_may_be_empty() -> None:
    [rules] = tables("orders", exchange="", routing_key="").table_rules
    assert (rules.exchange, rules.routing_key) == ("", "")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_the_scheme_of_the_database_is_rewritten(scheme: str) -> None:
    config = tables("orders", database_url=f"{scheme}://u:p@h/d")
    assert config.database_url == "postgresql+psycopg2://u:p@h/d"


def test_database_and_broker_may_come_from_the_usual_variables() -> None:
    environ = {"DATABASE_URL": "postgres://h/d", "RABBITMQ_URL": "amqp://b", "FLASK_APP": "for-others"}
    config = resolve({"table_names": ("orders",)}, environ, broker_variables=("AMQP_URL", "RABBITMQ_URL"))
    assert (config.database_url, config.amqp_url) == ("postgresql+psycopg2://h/d", "amqp://b")


#: What is meant for the other mode, or for other programs, and is wrong or cannot be read.
WRONG_OF_TABLES = {
    "DATABASE_URL": "mysql+x://h/d",
    "SIGNALBUS_RELAY_DATABASE_URL": "sqlite://",
    "SIGNALBUS_RELAY_DATABASE_URL_FILE": "/nowhere",
    "SIGNALBUS_RELAY_MAP": "=",
    "SIGNALBUS_RELAY_PRESET": "nonsense",
    "SIGNALBUS_RELAY_WHERE": "(",
    "SIGNALBUS_RELAY_NOT_BEFORE": "",
    "SIGNALBUS_RELAY_ALL_ROWS": "perhaps",
}


def test_with_an_application_variables_about_tables_are_not_read() -> None:
    named = {"SIGNALBUS_RELAY_TABLE": "a.b.c.d", "SIGNALBUS_RELAY_TABLES": "/nowhere", "RABBITMQ_URL": "amqp://b"}
    config = resolve({"app": "shop"}, {**WRONG_OF_TABLES, **named}, broker_variables=("RABBITMQ_URL",))
    assert (config.app, config.database_url, config.amqp_url, config.table_rules) == ("shop", None, None, [])
    assert resolve({}, {**WRONG_OF_TABLES, "FLASK_APP": "shop"}).app == "shop"


@pytest.mark.parametrize("named", [{"table_names": ("a",)}, {}])
def test_with_tables_variables_about_an_application_are_not_read(named: dict[str, Any]) -> None:
    environ = {"SIGNALBUS_RELAY_IMPORT": "x", "FLASK_APP": "y", "SIGNALBUS_RELAY_TABLE": "a"}
    if named:
        environ |= {"SIGNALBUS_RELAY_APP": "shop"}
    config = resolve({**URL, **named}, environ)
    assert (config.app, config.imports, len(config.table_rules)) == ("", (), 1)


def test_app_and_tables_in_one_environment_contradict_each_other() -> None:
    [problem] = problems({"SIGNALBUS_RELAY_APP": "shop", "SIGNALBUS_RELAY_TABLE": "a"}, **URL)
    assert problem.startswith("SIGNALBUS_RELAY_APP: with SIGNALBUS_RELAY_TABLE there is no application.")


def test_secrets_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgres://u:p@h/d\n")
    environ = {"SIGNALBUS_RELAY_DATABASE_URL_FILE": str(tmp_path / "url")}
    assert resolve({"table_names": ("orders",)}, environ).database_url == "postgresql+psycopg2://u:p@h/d"


def test_all_problems_are_told_together_and_no_password() -> None:
    found = problems(
        environ={"SIGNALBUS_RELAY_AMQP_URL_FILE": "/nowhere/amqp"},
        table_names=("orders", "orders", "a.b.c"),
        app="shop",
        imports=("models",),
        preset="debesium",
        assignments=("payload", "payload=bodi"),
        database_url="mysql://u:secret@h/d",
    )
    assert [problem.split(":")[0] for problem in found] == [
        "--table",
        "--map",
        "--preset",
        "--database-url",
        "SIGNALBUS_RELAY_AMQP_URL_FILE",
        "--app",
        "--import",
    ]
    text = "\n".join(found)
    assert "No such file" in text
    assert "there is no field 'bodi'; there are exchange" in text
    assert "not 'debesium'" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"table_names": ("orders", "orders")}, "--table orders: it is given twice."),
        ({"table_names": ("orders",), "app": "shop"}, "--app: with --table there is no application."),
        ({"table_names": ("orders",), "imports": ("x",)}, "--import: with --table there is no application."),
        ({"table_names": ("orders",), "database_url": None}, "--database-url: which database?"),
        ({"table_names": ("a",), "assignments": ("b.x=body",)}, "--map b.x=body: there is no --table b."),
        ({"table_names": ("a",), "assignments": ("x=body", "x=headers")}, "--map x: it is given twice."),
        ({"table_names": ("a",), "assignments": ("x=headers.",)}, "--map: there is no field 'headers.'"),
        ({"table_names": ("a",), "assignments": ("a.b.c.d=body",)}, "--map: 'a.b.c.d' has too many parts"),
        ({"app": "shop", "preset": "debezium"}, "--preset: it is about tables that --table names"),
        ({"app": "shop"}, "--database-url: it is about tables that --table names"),
        ({}, "--app: which application?"),
    ],
)
def test_what_does_not_go_together_is_told(given: dict[str, Any], problem: str) -> None:
    found = problems(**{**URL, **given})
    assert any(one.startswith(problem) for one in found), found


@pytest.mark.parametrize("days", ["0", "-1", "week", "7.0", "", "36501", "nan"])
def test_keep_days_that_are_none_are_refused(tmp_path: Path, days: str) -> None:
    expected = f"--keep-days: a whole number from 1 to 36500 is expected, not {days!r}."
    assert problems(**URL, table_names=("orders",), keep_days=days) == [expected]
    path = tmp_path / "tables.json"
    for given in (days, 0, -1, 7.0, True, [7], 36_501):
        path.write_text(json.dumps({"tables": {"orders": {"keep_days": given}}}))
        [found] = problems(**URL, tables_file=str(path))
        assert f"keep_days: a whole number from 1 to 36500 is expected, not {given!r}" in found


def test_a_broker_is_needed_only_where_something_is_sent() -> None:
    given = {**URL, "table_names": ("orders",)}
    assert resolve(given, {}).amqp_url is None
    with pytest.raises(ConfigError, match="--amqp-url: which broker"):
        resolve(given, {}, broker_variables=("AMQP_URL",))


CONTENT = {
    "tables": {
        "orders": {"preset": "debezium", "exchange": "orders", "map": {"kind": "message_type"}},
        'sales."x.y"': {"routing_key": ""},
    }
}
TOML = """
[tables.orders]
preset = "debezium"
exchange = "orders"
map = { kind = "message_type" }

[tables.'sales."x.y"']
routing_key = ""
"""


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_file_says_of_each_table_what_command_line_says_of_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"tables.{suffix}"
    path.write_text(json.dumps(CONTENT) if suffix == "json" else TOML)
    if suffix == "toml" and sys.version_info < (3, 11):
        assert "needs Python 3.11" in problems(**URL, tables_file=str(path))[0]
        return
    config = resolve({**URL, "table_names": ("more",), "tables_file": str(path), "exchange": "rest"}, {})
    assert config.table_rules == [
        TableRules(TableName(None, "more"), {}, None, "rest", None),
        TableRules(TableName(None, "orders"), {"kind": "message_type"}, "debezium", "orders", None),
        TableRules(TableName("sales", "x.y"), {}, None, "rest", ""),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is no JSON"),
        ("[]", "tables, and nothing else, are expected"),
        ('{"tables": {}}', "tables, and nothing else, are expected"),
        ('{"tables": {"a": {}}, "exchange": "x"}', "tables, and nothing else, are expected"),
        ('{"tables": {"a": 5}}', "a: a table of settings is expected"),
        ('{"tables": {"a": {"exchange": 5}, "b.": {}}}', "a: exchange: a text is expected; 'b.' is no name"),
        ('{"tables": {"a": {"exchnge": "x"}}}', "a: 'exchnge' is not known; known are preset"),
        ('{"tables": {"a": {"preset": "x"}}}', "a: preset: one of debezium, go-outbox, django"),
        ('{"tables": {"a": {"done": 5}}}', "a: done: a text is expected"),
        ('{"tables": {"a": {"done": "x"}}}', "a: done: COLUMN = VALUE is expected"),
        ('{"tables": {"a": {"map": ["x"]}}}', "a: map: columns and their fields are expected"),
        ('{"tables": {"a": {"map": {"x": "bodi"}}}}', "a: map: there is no field 'bodi'"),
        ('{"tables": {"a": {"where": 5}}}', "a: where: a condition of SQL is expected"),
        ('{"tables": {"a": {"where": "x", "all_rows": true}}}', "a: where and all_rows exclude each other"),
        ('{"tables": {"a": {"not_before": {}, "all_rows": "y"}}}', "a: not_before: a column, or a list of columns"),
    ],
)
def test_what_a_file_cannot_say_is_told(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "tables.json"
    path.write_text(content)
    [found] = problems(**URL, tables_file=str(path))
    assert found.startswith("--tables: ")
    assert problem in found


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    assert "is not in UTF-8" in problems(**URL, tables_file=str(tmp_path / "binary.json"))[0]
    assert "cannot be read (No such file or directory)" in problems(**URL, tables_file=str(tmp_path / "none"))[0]


@pytest.mark.parametrize(
    "text",
    [
        "status = 'NEW'",
        "(a OR b) AND c IN (SELECT x FROM y)",
        """note = 'it''s; (a -- b' AND "odd ;)" = E'\\'('""",
        "body <> $$ ; -- ) $$ AND x::text = $a$ $$ ( $a$",
        "a - -1 > 2",
    ],
)
def test_a_condition_may_be_any_that_ends_where_it_began(text: str) -> None:
    assert condition(f" {text}\n") == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a condition of SQL is expected"),
        ("a; DELETE FROM b", "semicolon"),
        ("1=1) OR (1=1", "parentheses"),
        ("(a", "parentheses"),
        ("a -- b", "comment"),
        ("a /* b", "comment"),
        ("a = 'b", "quote"),
        ('"a = 1', "quote"),
        ("a = E'\\'", "quote"),
        ("a\0", "NUL"),
    ],
)
def test_what_would_leave_its_parentheses_is_no_condition(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        condition(text)


def test_which_rows_are_meant_is_said_for_all_tables_or_for_one(tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    tables = {"a": {"all_rows": True}, "b": {"where": "x"}, "c": {"not_before": "due"}, "d": {"not_before": ["e", "f"]}}
    path.write_text(json.dumps({"tables": tables}))
    given = {**URL, "tables_file": str(path), "where": "status = 'NEW'", "not_before": ("send_after",)}
    assert [(one.where, one.not_before, one.all_rows) for one in resolve(given, {}).table_rules] == [
        (None, ("send_after",), True),
        ("x", ("send_after",), None),
        ("status = 'NEW'", ("due",), None),
        ("status = 'NEW'", ("e", "f"), None),
    ]


def test_which_rows_are_meant_comes_from_the_environment_too() -> None:
    environ = {"SIGNALBUS_RELAY_NOT_BEFORE": 'a,"b,c"', "SIGNALBUS_RELAY_ALL_ROWS": "yes"}
    [rules] = resolve({**URL, "table_names": ("orders",)}, environ).table_rules
    assert (rules.where, rules.not_before, rules.all_rows) == (None, ("a", "b,c"), True)
    [problem] = problems(**URL, table_names=("orders",), where="x", all_rows=True)
    assert problem == "--where: --all-rows says that all rows are meant. Give the one or the other."
    assert problems(**URL, app="shop", where="x", not_before=("x",), all_rows=True)[:2] == [
        "--where: it is about tables that --table names, and there is none.",
        "--not-before: it is about tables that --table names, and there is none.",
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("status", "COLUMN = VALUE is expected, for example status = 'SENT', not 'status'"),
        ("status = ", "COLUMN = VALUE is expected"),
        ("status = 1;", "there is a semicolon in it"),
        ("status = 1 -- x", "has a comment in it"),
        ("status = 'x", "a quote of the list of assignments is not closed"),
        ("status = (1", "the parentheses of the list of assignments do not match"),
        ("status = 1, STATUS = 2", "status is set twice"),
        ("(a, b) = (1, 2)", "COLUMN = VALUE is expected"),
    ],
)
def test_assignments_that_cannot_be_read_are_refused(given: str, problem: str) -> None:
    [found] = problems(**URL, table_names=("jobs",), where="status = 0", done=given)
    assert found.startswith("--done: ")
    assert problem in found


def test_assignments_are_split_outside_of_quotes_and_parentheses() -> None:
    text = "Status = 'a,b', \"Odd \"\"one\" = coalesce(a, b), tags = ARRAY['x', 'y']"
    assert assignments(text) == (
        ("status", "'a,b'"),
        ('Odd "one', "coalesce(a, b)"),
        ("tags", "ARRAY['x', 'y']"),
    )


def test_marks_contradict_all_rows() -> None:
    [problem] = problems(**URL, table_names=("jobs",), all_rows=True, done="status = 1")
    assert problem.startswith("--done: --all-rows says that all rows are meant")
    assert tables("jobs", all_rows=True, done="-").table_rules[0].marks is None


def test_a_layout_says_what_the_options_do_not() -> None:
    def of(**said: Any) -> TableRules:
        return TableRules(TableName(None, "t"), {}, preset="namastack", **said).with_layout()

    assert (of().where, of().marks) == ("status = 'NEW'", "status = 'COMPLETED', completed_at = now()")
    assert of(where="id > 1").marks == of().marks
    assert (of(done="-").marks, of(done="status = 'X'").marks) == (None, "status = 'X'")
    assert (of(all_rows=True).where, of(all_rows=True).marks) == (None, None)
