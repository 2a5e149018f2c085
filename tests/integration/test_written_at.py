"""When a signal was written is taken from the model's own column, where that tells a moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from signalbus_core import PartialDeliveryError, SignalBusMixin, SignalModelError
from signalbus_core.lowlevel import send_burst


class Database(SignalBusMixin, SQLAlchemy):
    pass


@pytest.fixture
def db(database_url: str) -> Iterator[Any]:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = Database(app)
    with app.app_context():
        yield db
        db.session.remove()
        db.engine.dispose()


def make(db: Any, **members: Any) -> Any:
    def send_signalbus_messages(cls: Any, signals: list[Any]) -> None:
        refused = [signal for signal in signals if signal.id == 2]
        if refused:
            raise PartialDeliveryError(delivered=[signal for signal in signals if signal.id != 2])

    return type(
        "Order",
        (db.Model,),
        {
            "id": db.Column(db.Integer, primary_key=True),
            "signalbus_burst_count": 10,
            "send_signalbus_message": lambda self: None,
            "send_signalbus_messages": classmethod(send_signalbus_messages),
            **members,
        },
    )


def moment(name: str | None = None, timezone: bool = True) -> sa.Column[Any]:
    arguments = [name] if name else []
    return sa.Column(*arguments, sa.DateTime(timezone=timezone))


@pytest.mark.parametrize(
    ("members", "attribute"),
    [
        ({"created_at": moment()}, "created_at"),
        ({"inserted_at": moment("made")}, "inserted_at"),
        ({"created_at": moment(timezone=False), "inserted_at": moment()}, "inserted_at"),
        ({"created_at": sa.Column(sa.Text)}, None),
        ({"placed_at": moment()}, None),
        ({"placed_at": moment(), "signalbus_created_at": "placed_at"}, "placed_at"),
        ({"created_at": moment(), "signalbus_created_at": None}, None),
        ({}, None),
    ],
)
def test_the_column_is_found_by_its_name_and_type(db: Any, members: dict[str, Any], attribute: str | None) -> None:
    [spec] = db.signalbus.specs([make(db, **members)])
    assert spec.written_at == attribute


@pytest.mark.parametrize("given", ["placed_at", "naive", "text", 5, ""])
def test_a_column_that_cannot_tell_is_refused(db: Any, given: object) -> None:
    model = make(db, naive=moment(timezone=False), text=sa.Column(sa.Text), signalbus_created_at=given)
    with pytest.raises(SignalModelError, match="signalbus_created_at"):
        db.signalbus.specs([model])


def test_a_burst_tells_when_what_it_sent_was_written(db: Any) -> None:
    model = make(db, created_at=moment())
    db.create_all()
    first = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
    db.session.add_all([model(id=number, created_at=first + timedelta(hours=number)) for number in (1, 2, 3)])
    db.session.add(model(id=4, created_at=None))
    db.session.commit()
    [spec] = db.signalbus.specs()
    result = send_burst(db.session(), spec)
    assert result.sent == 3
    # Neither what was not sent, nor what has no time.
    assert sorted(result.written_at) == [first + timedelta(hours=1), first + timedelta(hours=3)]
