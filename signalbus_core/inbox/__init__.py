"""The inbox: a consumer remembers, in the transaction of its work, which messages it has processed.

So each message has its effects exactly once, however often it is delivered. It works with any client of any broker, and
with any SQLAlchemy session; it needs no Flask application.
"""

from __future__ import annotations

from ..errors import MessageIdError
from .clean import clean
from .handler import once
from .receive import receive
from .table import privileges_problem, table, table_sql

__all__ = [
    # In the consumer's transaction
    "receive",
    "once",
    "MessageIdError",
    # The table
    "table",
    "table_sql",
    "clean",
    "privileges_problem",
]
