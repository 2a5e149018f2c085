"""How the rows that the database keeps are found among others."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from unittest.mock import Mock

from signalbus_core.burst.undeletable import delete_by_halves
from signalbus_core.sql.rows import Row


class Part(int):
    """A part of a key that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Part.compared += 1
        return super().__eq__(other)

    __hash__ = int.__hash__


def test_rows_that_are_kept_are_told_from_others_by_their_keys() -> None:
    rows = [Row((Part(number),), (f"1(0,{number})1",)) for number in range(400)]

    def delete(part: Sequence[Row]) -> list[Row]:
        return [row for row in part if int(row.key[0]) % 2]

    kept = delete_by_halves(Mock(), Mock(), rows, delete, nullcontext)
    assert [row for row, _, _ in kept] == rows[1::2]
    assert Part.compared < 10 * len(rows)


def test_a_row_that_has_another_key_now_is_found_alone() -> None:
    rows = [Row((number,), (f"1(0,{number})1",)) for number in range(8)]

    def delete(part: Sequence[Row]) -> list[Row]:
        return [Row((100,), ("1(1,1)2",))] if rows[5] in part else []

    assert [row for row, _, _ in delete_by_halves(Mock(), Mock(), rows, delete, nullcontext)] == [rows[5]]
