"""``--metadata MODULE:BASE``: what cannot be loaded is refused in a sentence with the remedy."""

from __future__ import annotations

import sys

import pytest

from relay.application.load import LoadingError
from relay.application.metadata import load_metadata
from relay.config.resolve import ConfigError, resolve

MODELS = """
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry

from signalbus_core.rabbitmq import OutboxMessage

class Base(DeclarativeBase):
    pass

class Outbox(OutboxMessage, Base):
    __tablename__ = "outbox"

class Handwritten(Base):
    __tablename__ = "handwritten"
    id: Mapped[int] = mapped_column(primary_key=True)

    def send_signalbus_message(self) -> None: ...

class Bare(DeclarativeBase):
    pass

class Bound(DeclarativeBase):
    metadata = MetaData(info={"bind_key": "other"})

class BoundOutbox(OutboxMessage, Bound):
    __tablename__ = "outbox"

class Nested:
    models = Base.registry

metadata = Base.metadata
number = 7
db = SQLAlchemy()
"""

URL = "postgresql+psycopg2://nobody@127.0.0.1:1/none"


@pytest.fixture(autouse=True, scope="module")
def _module(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("models")
    (directory / "shop_models.py").write_text(MODELS)
    (directory / "broken_models.py").write_text("1 / 0")
    sys.path.insert(0, str(directory))


@pytest.mark.parametrize(
    "location", ["shop_models:Base", "shop_models", "shop_models:Outbox", "shop_models:Nested.models"]
)
def test_signal_models_of_a_base_class_are_found(location: str) -> None:
    loaded = load_metadata(location, (), URL, 2)
    assert [spec.name for spec in loaded.bus.specs()] == ["Handwritten", "Outbox"]
    assert {*loaded.bus.get_signal_models()[0].metadata.tables} >= {"outbox", "signalbus_parked", "signalbus_paused"}


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("no_such_models:Base", "there is no module 'no_such_models'. It is looked for in the current directory"),
        ("no/such.py:Base", "there is no such file"),
        ("broken_models:Base", "importing broken_models raised ZeroDivisionError"),
        (
            "shop_models:Nothing",
            "has no attribute 'Nothing'. Name the base class of the models: --metadata shop_models",
        ),
        ("shop_models:metadata", "it is a MetaData, which does not know its models. Name their base class"),
        ("shop_models:number", "the base class of models is expected, as class Base(DeclarativeBase), not int"),
        ("shop_models:db", "the base class of models is expected, as class Base(DeclarativeBase), not SQLAlchemy"),
        ("shop_models:Bare", "no model of this class is a signal model: OutboxMessage"),
        ("shop_models:Bound", "belongs to the bind 'other' of Flask-SQLAlchemy. Relay such an application with --app"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(location: str, expected: str) -> None:
    with pytest.raises(LoadingError) as caught:
        load_metadata(location, (), URL, 2)
    assert str(caught.value).startswith(f"--metadata {location}: ")
    assert expected in str(caught.value)


def problems(given: dict[str, object], **environ: str) -> list[str]:
    try:
        resolve(given, environ, broker_variables=("AMQP_URL",))
    except ConfigError as error:
        return list(error.problems)
    return []


def test_metadata_needs_a_database_and_a_broker_and_nothing_of_others() -> None:
    urls = {"DATABASE_URL": URL, "AMQP_URL": "amqp://localhost"}
    given: dict[str, object] = {"metadata": "shop.models:Base"}
    assert problems({**given, "imports": ("shop.more",)}, **urls, FLASK_APP="other", SIGNALBUS_RELAY_APP="x") == []
    assert problems({}, SIGNALBUS_RELAY_METADATA="shop.models:Base", **urls) == []
    assert [one.split(":")[0] for one in problems(given)] == ["--database-url", "--amqp-url"]
    assert problems({**given, "app": "shop"}, **urls) == [
        "--app: with --metadata there is no application. Give the one or the other."
    ]
    [problem] = problems({**given, "where": "true"}, **urls)
    assert problem == "--where: it is about tables that --table names, and there is none."
    [problem] = problems({**given, "table_names": ("outbox",)}, **urls)
    assert problem == "--metadata: with --table there is no base class. Give the one or the other."
    [problem] = problems({}, SIGNALBUS_RELAY_APP="x", SIGNALBUS_RELAY_METADATA="shop.models:Base", **urls)
    assert "SIGNALBUS_RELAY_APP: with SIGNALBUS_RELAY_METADATA there is no application" in problem
