"""Scans in the order of the key follow its index, whatever PostgreSQL believes of the table.

What it believes of an outbox is often wrong: a table that was analyzed while it was empty, or while one large
transaction wrote to it, counts as empty when it holds millions. Then a plan that reads all of them first, to find the
lowest few, costs as little as any. Without sorts and bitmaps it is chosen only where no index has the order, and then
at a cost that would have it compiled first, which takes longer than running it.
https://www.postgresql.org/docs/current/runtime-config-query.html#RUNTIME-CONFIG-QUERY-ENABLE
"""

from __future__ import annotations

_SETTINGS = ("enable_sort", "enable_bitmapscan", "jit")

#: Statements that hold for the rest of the transaction.
FOLLOW_THE_INDEX = tuple(f"SET LOCAL {name} = off" for name in _SETTINGS)

#: Statements that hold for the rest of the transaction: rows are looked up by each of the keys that are given, and the
#: table is not read instead. For a table that counts as small, or is full of dead rows, reading it looks cheaper.
LOOK_UP_KEYS = ("SET LOCAL enable_hashjoin = off", "SET LOCAL enable_mergejoin = off", "SET LOCAL jit = off")

#: Statements that hold for the rest of the transaction: rows are looked up by their places, however many they are.
LOOK_UP_PLACES = ("SET LOCAL enable_seqscan = off", "SET LOCAL jit = off")

#: Statements that end it before the transaction does.
PLAN_AS_USUAL = tuple(f"SET LOCAL {name} TO DEFAULT" for name in _SETTINGS)
