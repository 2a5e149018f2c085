"""Scans in the order of the key follow its index, whatever PostgreSQL believes of the table.

What it believes of an outbox is often wrong: a table that was analyzed while it was empty, or while one large
transaction wrote to it, counts as empty when it holds millions. Then a plan that reads all of them first, to find the
lowest few, costs as little as any. Without sorts and bitmaps it is chosen only where no index has the order.
https://www.postgresql.org/docs/current/runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE
"""

from __future__ import annotations

_SETTINGS = ("enable_sort", "enable_bitmapscan")

#: Statements that hold for the rest of the transaction.
FOLLOW_THE_INDEX = tuple(f"SET LOCAL {name} = off" for name in _SETTINGS)

#: Statements that end it before the transaction does.
PLAN_AS_USUAL = tuple(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)
