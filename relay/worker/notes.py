"""What this process remembers of single signals by itself. Pure: the time is passed in.

A note keeps its signal out of the bursts of others, and says when what is to be tried of it: its send or, when it was
proved sent, its delete. Notes lie by key, so a signal has one next try and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from signalbus_core.lowlevel import UNDELETED, DueSignal, Key

#: Failures of these classes are only told apart when the signal is sent alone.
ALONE = frozenset({"error", "closed"})


@dataclass(frozen=True)
class Note:
    """What is remembered of a signal.

    :param next_try: None when it is parked.
    :param cause: of its last failure.
    :param version: of its row; None when it is not known.
    :param destination: who refused it; None when nobody did, and when it is tried whatever becomes of others.
    """

    next_try: float | None
    cause: str
    attempts: int = 0
    first_failed: float = 0.0
    last_failed: float = 0.0
    version: str | None = None
    destination: str | None = None

    def is_due(self, now: float) -> bool:
        return self.next_try is not None and self.next_try <= now


class Notes:
    """Notes by key, in the order in which they were written.

    :param most: so many are kept; the oldest gives way.
    """

    def __init__(self, most: int | None = None) -> None:
        self._notes: dict[Key, Note] = {}
        self._most = most

    def write(self, key: Key, note: Note) -> None:
        self._notes.pop(key, None)
        self._notes[key] = note
        if self._most is not None and len(self._notes) > self._most:
            del self._notes[next(iter(self._notes))]

    def get(self, key: Key) -> Note | None:
        return self._notes.get(key)

    def forget(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._notes.pop(key, None)

    def keys(self) -> list[Key]:
        return list(self._notes)

    def items(self) -> list[tuple[Key, Note]]:
        return list(self._notes.items())

    def postpone(self, keys: Iterable[Key], until: float) -> None:
        """Have signals tried no earlier. Their place and their attempts stay."""
        for key in keys:
            note = self._notes.get(key)
            if note is not None and note.next_try is not None:
                self._notes[key] = replace(note, next_try=max(note.next_try, until))

    def due(self, now: float) -> list[tuple[Key, Note]]:
        """Signals whose next try has come, longest overdue first."""
        due = [(key, note) for key, note in self._notes.items() if note.is_due(now)]
        return sorted(due, key=lambda one: one[1].next_try or 0.0)

    def of_destination(self, destination: str) -> list[tuple[Key, Note]]:
        """Signals that a destination refused."""
        return [(key, note) for key, note in self._notes.items() if note.destination == destination]

    def __len__(self) -> int:
        return len(self._notes)


@dataclass(frozen=True)
class Due:
    """Signals that are tried again by one burst.

    :param is_delete: they were sent; what is tried is their delete.
    """

    signals: tuple[DueSignal, ...] = ()
    is_delete: bool = False
    keys: tuple[Key, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(signal.key for signal in self.signals))

    @classmethod
    def of(cls, due: Sequence[DueSignal], limit: int) -> Due:
        """Of these, longest overdue first, those that may be tried by one burst.

        One that has to be alone is, when its turn comes; of one destination, one tries for all.
        """
        if not due:
            return cls()
        if due[0].error_class == UNDELETED:
            return cls(tuple(one for one in due if one.error_class == UNDELETED)[:limit], is_delete=True)
        if due[0].error_class in ALONE:
            return cls((due[0],))
        chosen: dict[object, DueSignal] = {}
        for one in due:
            if one.error_class not in ALONE and one.error_class != UNDELETED:
                chosen.setdefault(one.destination or one.key, one)
        return cls(tuple(chosen.values())[:limit])
