"""Which rows are a model's own, and which send methods are a row's own: inheritance of tables, and of classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.declarative import AbstractConcreteBase

from relay.checks.run import Subject, find_problems
from relay.config.resolve import resolve
from relay.poller.database import PolledDatabase, TableOwners
from relay.poller.maintenance import TIDY_EVERY_SECONDS, TableError
from relay.poller.pauses import PausedModels
from relay.poller.poller import Poller
from relay.scheduler import Scheduler
from relay.worker.low_water import LowWater
from relay.worker.model_state import ModelState
from relay.worker.retry_policy import RetryPolicy
from relay.worker.retry_store import RetryStores
from signalbus_core import (
    BurstError,
    Outcome,
    OutcomeKind,
    PartialDeliveryError,
    PublishError,
    SignalBusMixin,
    SignalModelError,
)
from signalbus_core.lowlevel import BurstLimits, SignalSpec, send_burst
from signalbus_core.rabbitmq import RabbitMQSignal
from tests.integration.poller.test_poller import Watched
from tests.support.checked import Checked
from tests.support.clock import Clock
from tests.support.outbox_app import OutboxApp
from tests.support.recorder import Recorder


class Database(SignalBusMixin, SQLAlchemy):
    pass


class Post:
    """An application whose models record which method of which class sent which signals."""

    def __init__(self, database_url: str) -> None:
        self.app = Flask(__name__)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        self.db = db = Database(self.app)
        self.calls: list[tuple[str, str, list[int]]] = []
        self.raised: dict[str, BaseException] = {}
        post = self

        class Sender:
            signalbus_burst_count = 100

            def send_signalbus_message(self: Any) -> None:
                post.note("Sender.one", type(self), [self])

            @classmethod
            def send_signalbus_messages(cls, instances: list[Any]) -> None:
                post.note("Sender.many", cls, instances)

        class Plain(db.Model):  # type: ignore[name-defined,misc]
            __abstract__ = True
            id = db.Column(db.Integer, primary_key=True)
            kind = db.Column(db.Text, nullable=True)

        self.sender: Any = Sender
        self.plain: Any = Plain

    def note(self, method: str, model: type, signals: list[Any]) -> None:
        self.calls.append((method, model.__name__, sorted(signal.id for signal in signals)))
        if model.__name__ in self.raised:
            raise self.raised[model.__name__]

    def letters(self, **members: Any) -> tuple[Any, Any]:
        """A signal model, and a class below it.

        :param members: of the class below.
        """

        class Letter(self.sender, self.plain):  # type: ignore[name-defined,misc]
            __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

        parcel = type("Parcel", (Letter,), {"__mapper_args__": {"polymorphic_identity": "parcel"}, **members})
        return Letter, parcel

    def write(self, *signals: Any) -> None:
        self.db.create_all()
        self.db.session.add_all(signals)
        self.db.session.commit()

    def execute(self, *statements: str) -> None:
        with self.db.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def left(self, table: str = "letter") -> list[int]:
        with self.db.engine.connect() as connection:
            return list(connection.exec_driver_sql(f"SELECT id FROM {table} ORDER BY id").scalars())

    def burst(self, model: Any) -> Any:
        with self.app.app_context():
            [spec] = self.db.signalbus.specs([model])
            return send_burst(self.db.session(), spec)


@pytest.fixture
def post(database_url: str) -> Iterator[Post]:
    post = Post(database_url)
    with post.app.app_context():
        yield post
        post.db.session.remove()
        post.db.engine.dispose()


# Tables that inherit


INHERITING = "CREATE TABLE letter_eu (PRIMARY KEY (id)) INHERITS (letter)"


def test_a_table_that_others_inherit_from_is_refused_with_remedy(post: Post) -> None:
    letter, _ = post.letters()
    post.write(letter(id=1))
    post.execute(INHERITING, "INSERT INTO letter_eu VALUES (1, 'letter')")
    with pytest.raises(SignalModelError, match=r"inherit from it, letter_eu.*NO INHERIT"):
        post.db.signalbus.flushmany()
    assert not post.calls
    post.execute("ALTER TABLE letter_eu NO INHERIT letter")
    assert post.db.signalbus.flushmany() == 1


def test_a_table_that_inherits_is_an_outbox_like_any_other(post: Post) -> None:
    post.execute("CREATE TABLE common (id int, kind text)", "CREATE TABLE letter (PRIMARY KEY (id)) INHERITS (common)")
    letter, _ = post.letters()
    post.write(letter(id=1))
    assert post.db.signalbus.flushmany() == 1
    assert post.left() == []


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE s PARTITION OF letter FOR VALUES FROM (0) TO (9)"],
        [
            "CREATE TABLE s PARTITION OF letter FOR VALUES FROM (0) TO (9) PARTITION BY LIST (id)",
            "CREATE TABLE t PARTITION OF s FOR VALUES IN (1, 2)",
            "CREATE TABLE u PARTITION OF s DEFAULT",
        ],
    ],
    ids=["partitions", "partitions of partitions"],
)
def test_partitions_are_no_other_tables(post: Post, statements: list[str]) -> None:
    letter, _ = post.letters()
    post.execute("CREATE TABLE letter (id int PRIMARY KEY, kind text) PARTITION BY RANGE (id)", *statements)
    post.write(letter(id=1), letter(id=5))
    assert post.db.signalbus.flushmany() == 2
    assert post.left() == []


def test_a_partition_may_be_an_outbox_by_itself(post: Post) -> None:
    letter, _ = post.letters()
    post.execute(
        "CREATE TABLE whole (id int PRIMARY KEY, kind text) PARTITION BY RANGE (id)",
        "CREATE TABLE letter PARTITION OF whole FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE others PARTITION OF whole DEFAULT",
        "INSERT INTO whole VALUES (1, 'letter'), (100, 'letter')",
    )
    assert post.db.signalbus.flushmany([letter]) == 1
    assert post.left("whole") == [100]


def test_foreign_tables_among_partitions_are_refused(post: Post) -> None:
    post.letters()
    post.execute(
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE TABLE letter (id int NOT NULL, kind text) PARTITION BY RANGE (id)",
        "CREATE FOREIGN TABLE far_letter PARTITION OF letter DEFAULT SERVER far",
    )
    with pytest.raises(SignalModelError, match="no primary key that matches"):
        post.db.signalbus.flushmany()
    # Nor can it be given one.
    with pytest.raises(sa.exc.ProgrammingError, match="foreign"):
        post.execute("ALTER TABLE letter ADD PRIMARY KEY (id)")


@pytest.mark.parametrize("index", ["CREATE UNIQUE INDEX ON s (id)", "CREATE UNIQUE INDEX ON ONLY letter (id, part)"])
def test_a_key_that_is_unique_only_in_each_partition_is_no_key(post: Post, index: str) -> None:
    class Letter(post.sender, post.plain):  # type: ignore[name-defined,misc]
        pass

    post.execute(
        "CREATE TABLE letter (id int NOT NULL, kind text, part int NOT NULL) PARTITION BY LIST (part)",
        "CREATE TABLE s PARTITION OF letter FOR VALUES IN (1)",
        "CREATE TABLE t PARTITION OF letter FOR VALUES IN (2)",
        index,
        "INSERT INTO letter VALUES (1, NULL, 1), (1, NULL, 2)",
    )
    with pytest.raises(SignalModelError, match="no primary key that matches"):
        post.db.signalbus.flushmany()


def test_a_key_with_columns_that_model_does_not_know_is_no_key(post: Post) -> None:
    class Letter(post.sender, post.plain):  # type: ignore[name-defined,misc]
        pass

    post.execute(
        "CREATE TABLE letter (id int, kind text, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part)",
        "CREATE TABLE s PARTITION OF letter DEFAULT",
    )
    with pytest.raises(SignalModelError, match="no primary key that matches"):
        post.db.signalbus.flushmany()


def test_rows_of_inheriting_table_are_never_deleted_unsent(post: Post) -> None:
    letter, _ = post.letters()
    post.write(letter(id=1))
    post.execute(INHERITING, "INSERT INTO letter_eu VALUES (1, 'letter')")
    [spec] = post.db.signalbus.specs([letter])
    with pytest.raises(BurstError, match="inherit"):
        send_burst(post.db.session(), spec, limit=1, rehearse=True)
    assert post.left() == [1, 1]
    # What was sent is deleted by its place, and the other row stays.
    assert send_burst(post.db.session(), spec, limit=1).sent == 1
    assert post.left() == [1]


def test_check_tells_of_tables_that_inherit(database_url: str) -> None:
    checked = Checked(database_url, "amqp://127.0.0.1:1/").create()
    checked.execute('CREATE TABLE eu () INHERITS ("order")')
    [finding] = [one for one in checked.find("tables") if one.code == "table-unfit"]
    assert "inherit" in finding.problem
    assert "NO INHERIT" in finding.remedy


@pytest.fixture
def watched(database_url: str) -> Iterator[Watched]:
    watched = Watched(database_url, models=4)
    yield watched
    watched.engine.dispose()


def taken(scheduler: Scheduler) -> set[str]:
    return {name for _ in range(2) if (name := scheduler.take(0)) is not None}


def test_relay_does_not_start_on_table_that_others_inherit_from(watched: Watched) -> None:
    watched.execute("CREATE TABLE eu () INHERITS (m02)")
    with pytest.raises(TableError, match=r"M02.*inherit"):
        watched.poller.run_once()


def test_relay_leaves_table_alone_once_others_inherit_from_it(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watched.poller.run_once()
    watched.execute(
        "CREATE TABLE eu () INHERITS (m02)", "INSERT INTO m02 VALUES (1, '')", "INSERT INTO m03 VALUES (1, '')"
    )
    watched.clock.now += TIDY_EVERY_SECONDS
    watched.poller.run_once()
    assert taken(watched.scheduler) == {"M03"}
    assert "inherit" in caplog.text
    assert not watched.poller.covered_everything
    watched.execute("DROP TABLE eu")
    watched.clock.now += TIDY_EVERY_SECONDS
    watched.poller.run_once()
    assert "M02" in taken(watched.scheduler)
    assert watched.poller.covered_everything


# Several models on one table


def second_model(post: Post, how: str) -> Any:
    class Letter(post.sender, post.plain):  # type: ignore[name-defined,misc]
        pass

    members: dict[str, Any] = {"__table__": Letter.__table__}
    if how == "extend_existing":
        column = post.db.Column(post.db.Integer, primary_key=True)
        members = {"__tablename__": "letter", "__table_args__": {"extend_existing": True}, "id": column}
    elif how == "another schema":
        column = post.db.Column(post.db.Integer, primary_key=True)
        members = {"__tablename__": "letter", "__table_args__": {"schema": "public"}, "id": column}
    return type("Twin", (post.sender, post.db.Model), members), Letter


@pytest.mark.parametrize("how", ["__table__", "extend_existing", "another schema"])
def test_two_models_on_one_table_are_refused_by_both_names(post: Post, how: str) -> None:
    models = second_model(post, how)
    post.execute("CREATE TABLE letter (id int PRIMARY KEY, kind text)", "INSERT INTO letter VALUES (1, '')")
    with pytest.raises(SignalModelError, match="several signal models") as raised:
        post.db.signalbus.flushmany()
    assert "Letter" in str(raised.value)
    assert "Twin" in str(raised.value)
    assert "polymorphic_on" in str(raised.value)
    assert not post.calls
    for model in models:
        with pytest.raises(SignalModelError, match="several signal models"):
            post.db.signalbus.flushmany([model])


def test_a_relay_does_not_start_with_two_models_on_one_table(database_url: str) -> None:
    watched = Watched(database_url, models=2)
    table, key = {"schema": "public"}, sa.Column(sa.Integer, primary_key=True)
    members = {"__tablename__": "m00", "__table_args__": table, "id": key, "send_signalbus_message": lambda _self: None}
    twin = type("Twin", (watched.db.Model,), members)
    with watched.app.app_context():
        specs = watched.db.signalbus.specs()
    assert twin in {spec.model for spec in specs}
    watched.poller._maintenance._specs = specs
    with pytest.raises(TableError, match="M00 and Twin"):
        watched.poller.run_once()
    watched.engine.dispose()


def twins(database_url: str, how: str) -> OutboxApp:
    """An application two of whose models, Letter and Twin, have the same rows."""
    path = {"connect_args": {"options": "-c search_path=sales,public"}} if how == "search_path" else None
    other = database_url.replace("127.0.0.1", "localhost") if how == "address" else database_url
    app = OutboxApp(database_url, engine=path, SQLALCHEMY_BINDS={"other": other})
    of_other = {"__bind_key__": "other"}
    further = {"search_path": {"__table_args__": {"schema": "sales"}}, "bind": of_other, "address": of_other}
    app.model("Letter", __tablename__="letter")
    app.model("Twin", __tablename__="letter_1" if how == "partition" else "letter", **further.get(how, {}))
    app.execute(
        "CREATE SCHEMA sales",
        f"CREATE TABLE letter (id bigint PRIMARY KEY) {'PARTITION BY LIST (id)' if how == 'partition' else ''}",
        *(["CREATE TABLE letter_1 PARTITION OF letter FOR VALUES IN (1)"] if how == "partition" else []),
        *(["DROP TABLE letter", "CREATE TABLE sales.letter (id bigint PRIMARY KEY)"] if how == "search_path" else []),
        "INSERT INTO letter VALUES (1)",
    )
    return app


@pytest.mark.parametrize("how", ["search_path", "bind", "address", "partition"])
def test_two_models_with_the_same_rows_are_refused_however_they_name_them(database_url: str, how: str) -> None:
    app = twins(database_url, how)
    with app.app.app_context():
        for model in app.models.values():
            with pytest.raises(SignalModelError, match=r"several signal models, Letter and Twin"):
                app.db.signalbus.flushmany([model])
        specs = app.db.signalbus.specs()
        engines = {spec.bind_key: app.db.engines[spec.bind_key] for spec in specs}
        subject = Subject(app.app, app.db.signalbus, resolve({"app": "shop"}, {}))
        findings = find_problems(subject, ["tables"])
    assert {"Letter", "Twin"} == {one.subject for one in findings if "several signal models" in one.problem}
    pollers = pollers_of(specs, engines)
    with pytest.raises(TableError, match="Letter and Twin"):
        [poller.run_once() for poller in pollers]
    for engine in engines.values():
        engine.dispose()


def pollers_of(specs: Sequence[SignalSpec], engines: Mapping[str | None, sa.Engine]) -> list[Poller]:
    clock = Clock(1000.0)
    names = [spec.name for spec in specs]
    runtime = Recorder(names, clock, "test.twins").runtime
    scheduler = Scheduler(names, clock=clock)
    states = {spec.name: ModelState(spec, low_water=LowWater(is_kept=True)) for spec in specs}
    retry_stores = RetryStores(specs, engines, RetryPolicy(), BurstLimits(), clock)
    owners, paused = TableOwners(), PausedModels(scheduler, runtime)
    databases = [
        PolledDatabase(bind_key, engine, [spec for spec in specs if spec.bind_key == bind_key], owners)
        for bind_key, engine in engines.items()
    ]
    return [Poller(one, states, retry_stores, paused, scheduler, runtime) for one in databases]


def test_a_model_beside_a_signal_model_on_its_table_is_no_matter(post: Post) -> None:
    class Letter(post.sender, post.plain):  # type: ignore[name-defined,misc]
        pass

    reader = type("Reader", (post.db.Model,), {"__table__": Letter.__table__})
    post.write(Letter(id=1), reader(id=2))
    assert post.db.signalbus.flushmany() == 2


# Classes that share a table


def one_of_its_own(post: Post) -> dict[str, Any]:
    def send_signalbus_message(self: Any) -> None:
        post.note("Parcel.one", type(self), [self])

    return {"send_signalbus_message": send_signalbus_message}


def many_of_its_own(post: Post) -> dict[str, Any]:
    def send_signalbus_messages(cls: type, instances: list[Any]) -> None:
        post.note("Parcel.many", cls, instances)

    return {"send_signalbus_messages": classmethod(send_signalbus_messages)}


@pytest.mark.parametrize(
    ("own", "calls"),
    [
        ([], [("Sender.many", "Parcel", [2, 4])]),
        ([one_of_its_own], [("Parcel.one", "Parcel", [2]), ("Parcel.one", "Parcel", [4])]),
        ([many_of_its_own], [("Parcel.many", "Parcel", [2, 4])]),
        ([one_of_its_own, many_of_its_own], [("Parcel.many", "Parcel", [2, 4])]),
    ],
    ids=["none", "one", "many", "both"],
)
def test_the_rows_of_a_class_are_sent_by_its_own_methods(post: Post, own: list[Any], calls: list[Any]) -> None:
    letter, parcel = post.letters(**{name: method for make in own for name, method in make(post).items()})
    post.write(letter(id=1), parcel(id=2), letter(id=3), parcel(id=4))
    assert post.db.signalbus.get_signal_models() == [letter]
    assert post.db.signalbus.flushmany() == 4
    assert [("Sender.many", "Letter", [1, 3]), *calls] == post.calls
    assert post.left() == []


def test_a_single_row_is_sent_by_the_method_of_its_class(post: Post) -> None:
    _, parcel = post.letters(**one_of_its_own(post))
    post.write(parcel(id=2))
    assert post.db.signalbus.flushmany() == 1
    assert post.calls == [("Parcel.one", "Parcel", [2])]


def test_a_model_that_replaces_the_method_for_one_is_sent_by_it(post: Post) -> None:
    class Letter(post.sender, post.plain):  # type: ignore[name-defined,misc]
        def send_signalbus_message(self: Any) -> None:
            post.note("Letter.one", type(self), [self])

    post.write(Letter(id=1), Letter(id=2))
    assert post.db.signalbus.flushmany() == 2
    assert {method for method, _, _ in post.calls} == {"Letter.one"}


def test_the_smallest_burst_count_of_the_classes_counts(post: Post) -> None:
    letter, _ = post.letters(signalbus_burst_count=3)
    assert post.db.signalbus.specs()[0].burst_count == 3
    bad = type("Bad", (letter,), {"__mapper_args__": {"polymorphic_identity": "bad"}, "signalbus_burst_count": 0})
    with pytest.raises(SignalModelError, match="signalbus_burst_count"):
        post.db.signalbus.specs()
    del bad


REFUSED = Outcome(OutcomeKind.REFUSED, "312 NO_ROUTE", cause="returned")
SILENT = Outcome(OutcomeKind.UNKNOWN, "no answer")


@pytest.mark.parametrize(
    ("raised", "failed", "unanswered"),
    [
        (ValueError("a bug"), [], False),
        (PublishError([REFUSED, REFUSED]), [], False),
        (PublishError([SILENT, REFUSED]), [2, 4], True),
        (ConnectionError("away"), [2, 4], True),
    ],
    ids=["bug", "refused", "silent", "outage"],
)
def test_what_one_class_proved_is_not_hidden_by_another(
    post: Post, raised: Exception, failed: list[int], unanswered: bool
) -> None:
    letter, parcel = post.letters()
    post.raised["Parcel"] = raised
    post.write(letter(id=1), parcel(id=2), letter(id=3), parcel(id=4))
    result = post.burst(letter)
    assert result.sent == 2
    assert post.left() == [2, 4]
    assert [one.key for one in result.failed] == [(key,) for key in failed]
    assert result.is_outage == unanswered


def test_what_two_classes_report_is_put_together(post: Post) -> None:
    letter, parcel = post.letters()
    post.write(letter(id=1), letter(id=2), parcel(id=3), parcel(id=4))

    def partly(cls: type, instances: list[Any]) -> None:
        raise PartialDeliveryError(instances[:1], [(instances[1], REFUSED)])

    letter.send_signalbus_messages = classmethod(partly)
    result = post.burst(letter)
    assert (result.sent, [one.key for one in result.failed]) == (2, [(2,), (4,)])
    assert isinstance(result.error, PartialDeliveryError)
    assert post.left() == [2, 4]
    assert parcel is not None


def test_where_nothing_is_proved_the_error_is_the_senders_own(post: Post) -> None:
    letter, parcel = post.letters()
    post.raised["Letter"] = post.raised["Parcel"] = ValueError("a bug")
    post.write(letter(id=1), parcel(id=2), letter(id=3), parcel(id=4))
    result = post.burst(letter)
    assert result.failed_whole
    assert isinstance(result.error, ValueError)


def signal_below_plain(post: Post) -> tuple[Any, Any]:
    class Letter(post.plain):  # type: ignore[name-defined,misc]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

    class Parcel(post.sender, Letter):  # type: ignore[name-defined,misc]
        __mapper_args__ = {"polymorphic_identity": "parcel"}

    return Letter, Parcel


def test_rows_of_a_parent_that_is_no_signal_model_are_left_alone(post: Post) -> None:
    letter, parcel = signal_below_plain(post)
    post.write(letter(id=1), parcel(id=2), letter(id=3), parcel(id=4))
    post.execute("INSERT INTO letter VALUES (5, NULL), (6, 'unknown')")
    assert post.db.signalbus.pending() == {parcel: 2}
    assert post.db.signalbus.flushmany() == 2
    assert post.left() == [1, 3, 5, 6]
    assert post.db.signalbus.pending() == {parcel: 0}


def test_rows_that_cannot_be_loaded_are_looked_for_in_class(post: Post) -> None:
    class Picky(sa.TypeDecorator[str]):
        impl = sa.Text
        cache_ok = True

        def process_result_value(self, value: Any, _dialect: Any) -> Any:
            if value == "bad":
                raise ValueError("cannot be loaded")
            return value

    class Letter(post.plain):  # type: ignore[name-defined,misc]
        note = post.db.Column(Picky)
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

    class Parcel(post.sender, Letter):  # type: ignore[name-defined,misc]
        __mapper_args__ = {"polymorphic_identity": "parcel"}

    post.write(Letter(id=1, note="bad"), Parcel(id=2, note="bad"), Parcel(id=3))
    result = post.burst(Parcel)
    assert (result.sent, [one.key for one in result.failed]) == (1, [(2,)])
    assert post.left() == [1, 2]


def test_signal_models_side_by_side_on_one_table_are_refused(post: Post) -> None:
    letter, parcel = signal_below_plain(post)
    other = type("Other", (post.sender, letter), {"__mapper_args__": {"polymorphic_identity": "other"}})
    for model in (parcel, other):
        with pytest.raises(SignalModelError, match="several signal models"):
            post.db.signalbus.specs([model])


def test_signal_model_without_rows_may_stand_above_others(post: Post) -> None:
    class Letter(post.plain):  # type: ignore[name-defined,misc]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

    class Signal(post.sender, Letter):  # type: ignore[name-defined,misc]
        __mapper_args__ = {"polymorphic_abstract": True}

    first = type("First", (Signal,), {"__mapper_args__": {"polymorphic_identity": "first"}})
    second = type("Second", (Signal,), {"__mapper_args__": {"polymorphic_identity": "second"}})
    post.write(Letter(id=1), first(id=2), second(id=3))
    assert post.db.signalbus.get_signal_models() == [Signal]
    assert post.db.signalbus.flushmany() == 2
    assert post.left() == [1]


@pytest.mark.filterwarnings("ignore:Mapper.*polymorphic_identity:sqlalchemy.exc.SAWarning")
def test_classes_that_nothing_tells_apart_are_refused(post: Post) -> None:
    letter, _ = post.letters()
    nameless = type("Nameless", (letter,), {})
    with pytest.raises(SignalModelError, match="Nameless has no polymorphic_identity"):
        post.db.signalbus.specs()

    class Card(post.sender, post.plain):  # type: ignore[name-defined,misc]
        pass

    below = type("Below", (Card,), {})
    with pytest.raises(SignalModelError, match="nothing tells their rows apart"):
        post.db.signalbus.specs([Card])
    del nameless, below


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_models_of_several_tables_are_refused(post: Post) -> None:
    class Base(AbstractConcreteBase, post.sender, post.db.Model):  # type: ignore[name-defined,misc]
        strict_attrs = True

    class First(Base):
        __tablename__ = "first"
        id = post.db.Column(post.db.Integer, primary_key=True)
        __mapper_args__ = {"polymorphic_identity": "first", "concrete": True}

    sa.orm.configure_mappers()
    with pytest.raises(SignalModelError, match="not mapped to one table"):
        post.db.signalbus.specs([Base])

    letter, _ = post.letters()
    joined = sa.join(letter.__table__, First.__table__, letter.__table__.c.id == First.__table__.c.id)
    both = type(
        "Both",
        (post.sender, post.db.Model),
        {"__table__": joined, "id": sa.orm.column_property(letter.__table__.c.id, First.__table__.c.id)},
    )
    with pytest.raises(SignalModelError, match="not mapped to one table"):
        post.db.signalbus.specs([both])


def test_rabbitmq_signals_of_a_class_use_its_own_exchange(post: Post) -> None:
    class Letter(RabbitMQSignal, post.plain):  # type: ignore[name-defined,misc]
        signalbus_exchange = "letters"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "letter"}

    class Parcel(Letter):
        signalbus_exchange = "parcels"
        signalbus_burst_count = 20
        __mapper_args__ = {"polymorphic_identity": "parcel"}

    assert post.db.signalbus.specs()[0].burst_count == 20
    assert Parcel(id=1).signalbus_exchange == "parcels"
