"""Whatever an environment or a URL says, the answer is a configuration or a sentence, and never a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from relay.application.connection_parameters import rejected_parameters
from relay.application.outbox_tables.names import table_name
from relay.config.option import Option
from relay.config.options import OPTIONS
from relay.config.resolve import ConfigError, RelayConfig, resolve
from relay.config.values import database_url
from relay.telemetry.logs.formats import redact
from signalbus_core import SetupError
from signalbus_core.rabbitmq import Publisher
from tests.support.fuzzing import fuzzed

#: What neither a command line nor an environment can hold is left out.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
SECRET = "q7Zx9"
WORDS = st.sampled_from(
    [
        *(
            "shop:create_app",
            "orders",
            "a.b",
            '"a.b"',
            "x=body",
            "status = 'NEW'",
            "auto",
            "off",
            "json",
            "yes",
            "0",
            "-1",
        ),
        *(
            "1e309",
            "nan",
            "127.0.0.1:0",
            "[::1]:80",
            "/nowhere",
            ".",
            "/dev/null",
            "debezium",
            "INFO",
            "0123456789abcdef",
        ),
    ]
)
#: Parts of URLs, right and wrong.
SCHEMES = st.sampled_from(
    ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg", "mysql", "amqp", "amqps", ""]
)
HOSTS = st.sampled_from(["127.0.0.1:1", "[::1]:1", "h", "h:port", "h1:1,h2:2", "", "h:99999999", "%2Frun"]) | TEXTS
QUERIES = st.sampled_from(
    [
        *(
            "",
            "schema=public",
            "sslmode=nosuch",
            "port=abc",
            "connect_timeout=x",
            "host=a&host=b:1",
            "options=-c%20x",
            "&=&",
        ),
        *(
            "sslmode=verify-ca&sslrootcert=/nowhere",
            "channel_max=1",
            "channel_max=x",
            "heartbeat=x",
            "ssl_options=1",
            "x",
        ),
    ]
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """A URL whose password is the secret, as it stands or escaped, among other characters."""
    user, around = draw(TEXTS), draw(st.sampled_from(["{}", "{}@", "/{}", "{}%", "%40{}", ":{}:"]))
    password = draw(st.sampled_from([around, quote(around, safe="{}")])).format(SECRET)
    path, query = draw(TEXTS | st.sampled_from(["db", "%2F", ""])), draw(QUERIES)
    return f"{draw(SCHEMES)}://{quote(user, safe='')}:{password}@{draw(HOSTS)}/{path}?{query}"


VALUES = TEXTS | WORDS | urls()
VARIABLES = [
    *("FLASK_APP", "DATABASE_URL", "AMQP_URL", "RABBITMQ_URL"),
    *(option.variable + suffix for option in OPTIONS for suffix in (("", "_FILE") if option.is_secret else ("",))),
]


def given_as(option: Option, value: str) -> Any:
    return (value,) if option.many else True if option.is_flag else value


def refusal(call: Callable[[], object], *errors: type[Exception]) -> Exception | None:
    """The error with which a call refuses what it was given; None when it does not."""
    try:
        call()
    except errors as error:
        return error
    return None


@fuzzed(60)
@given(
    environ=st.dictionaries(st.sampled_from(VARIABLES), VALUES, max_size=6),
    given=st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=3),
    in_app=st.dictionaries(
        st.sampled_from(VARIABLES), VALUES | st.integers() | st.booleans() | st.lists(VALUES), max_size=2
    ),
)
def test_any_environment_is_a_configuration_or_sentences(
    environ: dict[str, str], given: dict[Option, str], in_app: dict[str, Any]
) -> None:
    arguments = {option.field: given_as(option, value) for option, value in given.items()}
    configs: list[RelayConfig] = []
    error = refusal(
        lambda: configs.append(resolve(arguments, environ, in_app, broker_variables=("AMQP_URL", "RABBITMQ_URL"))),
        ConfigError,
    )
    secrets = {"DATABASE_URL", *(option.variable for option in OPTIONS if option.is_secret)}
    for problem in getattr(error, "problems", ()):
        assert problem.endswith(".")
        assert not (problem.partition(":")[0] in secrets and SECRET in problem)
    assert [bool(config.app) != bool(config.table_rules) for config in configs] == ([] if error else [True])


@fuzzed(60)
@given(urls())
@example(f"postgresql://u:{SECRET}@h/d?schema=public")
@example(f"postgresql://u:{SECRET}@h/d?port=abc")
def test_any_url_of_a_database_is_refused_or_leads_to_a_server(url: str) -> None:
    error = refusal(lambda: database_url(url), ValueError)
    if error is None:
        assert SECRET not in redact(str(rejected_parameters(create_engine(database_url(url)))))
    assert SECRET not in str(error)


@fuzzed(60)
@given(urls() | TEXTS)
def test_any_url_of_a_broker_is_refused_or_used(url: str) -> None:
    error = refusal(lambda: Publisher(url=url).close(), SetupError)
    assert SECRET not in str(error)
    if error is None and f":{SECRET}@" in url:
        assert SECRET not in str(Publisher(url=url).location)


@fuzzed(60)
@given(TEXTS | st.text(max_size=80))
@example('"a"".b".c')
def test_any_text_is_the_name_of_a_table_or_none(text: str) -> None:
    error = refusal(lambda: table_name(text), ValueError)
    if error is None:
        assert table_name(str(table_name(text))) == table_name(text)
    else:
        assert str(error)
