"""Adds to ``create_all()`` and migrations what belongs to signal models: the tables of Signalbus itself, and doorbells.

Whatever base class a model has: a mapped class with a ``send_signalbus_message`` method is a signal model.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, event
from sqlalchemy.orm import Mapper

from ..model.sqlmodel import accept_columns
from . import doorbell, sent_partitions
from .ordering import position
from .own_tables import RELAYS, SENT, parked_table, paused_table


def follow_models() -> None:
    """From now on, each signal model that is mapped brings with it what belongs to it.

    - ``signalbus_parked``, ``signalbus_paused`` and ``signalbus_relays`` become tables of its metadata; so does
      ``signalbus_sent``, with its partitions, if it keeps what was sent.
    - Where it is a model of SQLModel, the columns of mixins become its attributes.
    - ``create_all()`` creates its doorbell, and the triggers of an order, together with its table.
    """
    if not event.contains(Mapper, "after_mapper_constructed", _add):
        event.listen(Mapper, "after_mapper_constructed", _add)


def _add(mapper: Mapper[Any], model: Any) -> None:
    table = mapper.local_table
    if callable(getattr(model, "send_signalbus_message", None)) and isinstance(table, Table):
        parked_table(table.metadata)
        paused_table(table.metadata)
        RELAYS.table(table.metadata)
        if getattr(model, "signalbus_keep_days", None) is not None:
            sent_partitions.create_with_table(SENT.table(table.metadata), model.signalbus_keep_days)
        doorbell.create_with_table(model, table)
        position.create_with_model(mapper, table)
        accept_columns(mapper, model)
