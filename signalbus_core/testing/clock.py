"""Lets time pass for scheduled signals, so that a test need not wait until they are due."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy import select

from ..model.schedule import SEND_AFTER
from ..sessions import own_session
from ..sql.schedule.conditions import is_future
from .signals import bus_of


def time_passes(app: Flask, delta: timedelta, *models: type[Any]) -> int:
    """Let so much time pass for the signals that are not due yet: each is due that much sooner.

    ::

        remind_tomorrow(order)
        assert send_until_empty(app) == 0
        time_passes(app, timedelta(days=1))
        assert send_until_empty(app) == 1

    The committed rows are changed; no clock is.

    :param models: of these signal models only; of all that have scheduled signals when none is given.
    :returns: how many signals are due sooner.
    """
    bus, changed = bus_of(app), 0
    with own_session(bus.db, app) as session:
        for spec in bus.specs(models or None):
            if spec.schedule is None:
                continue
            for signal in session.scalars(select(spec.model).where(is_future(spec))).unique():
                setattr(signal, SEND_AFTER, getattr(signal, SEND_AFTER) - delta)
                changed += 1
        session.commit()
    return changed
