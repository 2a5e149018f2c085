"""Failed signals that this process keeps in memory. Pure: the time is passed in.

A note keeps its signal out of the bursts of others, and says when its send is tried again or, when it was proved sent,
its delete. Invariant: notes are stored by key, so a signal has one next try.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from signalbus_core.lowlevel import UNDELETED, DueSignal, Key, SignalRef

#: After failures of these classes a signal is tried alone: only then it is known which signal of a burst is at fault.
ALONE = frozenset({"error", "closed"})


@dataclass(frozen=True)
class Note:
    """The failures of one signal.

    :param next_try: None when it is parked.
    :param cause: of its last failure.
    :param version: of its row; None when it is not known.
    :param destination: that refused it; None when none did, and when it is tried independently of others.
    :param key: as the model reads it, where the note is stored by the id of the row.
    """

    next_try: float | None
    cause: str
    attempts: int = 0
    first_failed: float = 0.0
    last_failed: float = 0.0
    version: str | None = None
    destination: str | None = None
    key: Key | None = None

    def is_due(self, now: float) -> bool:
        return self.next_try is not None and self.next_try <= now


class Notes:
    """Notes by key, in the order in which they were written; by row, where the model reads the key as another.

    :param most: the largest number; the oldest is dropped.
    """

    def __init__(self, most: int | None = None) -> None:
        self._notes: dict[SignalRef, Note] = {}
        self._most = most

    def write(self, key: SignalRef, note: Note) -> None:
        self._notes.pop(key, None)
        self._notes[key] = note
        if self._most is not None and len(self._notes) > self._most:
            del self._notes[next(iter(self._notes))]

    def get(self, key: SignalRef) -> Note | None:
        return self._notes.get(key)

    def forget(self, keys: Iterable[SignalRef]) -> None:
        for key in keys:
            self._notes.pop(key, None)

    def keys(self) -> list[SignalRef]:
        return list(self._notes)

    def items(self) -> list[tuple[SignalRef, Note]]:
        return list(self._notes.items())

    def postpone(self, keys: Iterable[SignalRef], until: float) -> None:
        """Try signals no earlier than ``until``. Their order and their attempts stay."""
        for key in keys:
            note = self._notes.get(key)
            if note is not None and note.next_try is not None:
                self._notes[key] = replace(note, next_try=max(note.next_try, until))

    def due(self, now: float) -> list[tuple[SignalRef, Note]]:
        """Signals whose next try is due, longest overdue first."""
        due = [(key, note) for key, note in self._notes.items() if note.is_due(now)]
        return sorted(due, key=lambda one: one[1].next_try or 0.0)

    def of_destination(self, destination: str) -> list[tuple[SignalRef, Note]]:
        """Signals that a destination refused."""
        return [(key, note) for key, note in self._notes.items() if note.destination == destination]

    def __len__(self) -> int:
        return len(self._notes)


@dataclass(frozen=True)
class Due:
    """Signals that one burst tries again.

    :param is_delete: they were sent; only their delete is tried.
    """

    signals: tuple[DueSignal, ...] = ()
    is_delete: bool = False
    keys: tuple[Key, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(signal.key for signal in self.signals))

    @classmethod
    def of(cls, due: Sequence[DueSignal], limit: int) -> Due:
        """Of these, longest overdue first, those that one burst may try.

        A signal that must be tried alone gets a burst for itself; of each destination one signal is tried for all.
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
