"""Hands models to workers: which one is next, and when; and whether a NOTIFY or a short step tells of its signals."""

from .queue import MOST_SPARE_WORKERS, Scheduler
from .turns import SLOW_TURN_SECONDS, Turn

__all__ = ["MOST_SPARE_WORKERS", "SLOW_TURN_SECONDS", "Scheduler", "Turn"]
