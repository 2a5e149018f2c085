"""The report of a drill, as a table for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .oracle import Effects, Recovery, Tally

#: So many numbers are listed; the others are counted.
NAMED = 10


@dataclass(frozen=True)
class DrillReport:
    """The report.

    :param asked: how many signals were to be committed.
    :param faults: how often each kind occurred.
    :param duplicates_bound: how many duplicates the faults explain.
    :param recovery: the longest recovery from a fault.
    :param effects: of consumers with an inbox; None where there were none.
    """

    seed: int
    asked: int
    faults: dict[str, int]
    tally: Tally
    duplicates_bound: int
    recovery: Recovery | None
    effects: Effects | None = None

    @property
    def is_good(self) -> bool:
        return self.tally.is_good and (self.effects is None or self.effects.is_good)

    def as_text(self) -> str:
        tally = self.tally
        rows = [(kind, f"{count:,}", "") for kind, count in sorted(self.faults.items())]
        rows += [
            ("signals committed", f"{tally.committed:,}", self._shortfall()),
            ("of these, in order by key", f"{tally.keyed:,}", ""),
            ("of these, scheduled", f"{tally.scheduled:,}", ""),
            ("signals rolled back", f"{tally.rolled_back:,}", ""),
            *([("signals in doubt", f"{tally.in_doubt:,}", "no answer to their commit")] if tally.in_doubt else []),
            ("messages received", f"{tally.received:,}", ""),
            ("lost", f"{len(tally.lost):,}", _named(tally.lost)),
            ("late", f"{len(tally.late):,}", _named(tally.late)),
            ("phantom", f"{len(tally.phantom):,}", _named(tally.phantom)),
            ("inversions", f"{len(tally.inversions):,}", _named(tally.inversions)),
            ("early", f"{len(tally.early):,}", _named(tally.early)),
            ("duplicates", f"{tally.duplicates:,}", f"the faults explain {self.duplicates_bound:,}"),
            ("longest recovery", *self._recovery()),
            *self._effect_rows(),
        ]
        lines = [f"  {name:<32}{value:>10}" + (f"   {note}" if note else "") for name, value, note in rows]
        return "\n".join([*lines, "", self.verdict()])

    def _effect_rows(self) -> list[tuple[str, str, str]]:
        if self.effects is None:
            return []
        return [
            *((f"consumer killed: {step}", f"{count:,}", "") for step, count in sorted(self.effects.kills.items())),
            ("effects", f"{self.effects.count:,}", ""),
            *((name, f"{len(numbers):,}", _named(numbers)) for name, numbers in self._wrong_effects().items()),
        ]

    def _wrong_effects(self) -> dict[str, tuple[int, ...]]:
        if self.effects is None:
            return {}
        return {
            "effects missing": self.effects.missing,
            "effects repeated": self.effects.repeated,
            "effects phantom": self.effects.phantom,
        }

    def _shortfall(self) -> str:
        return f"of {self.asked:,} that were asked for" if self.tally.committed < self.asked else ""

    def _recovery(self) -> tuple[str, str]:
        if self.recovery is None:
            return "0.0 s", ""
        return f"{self.recovery.seconds:.1f} s", self.recovery.kind

    def verdict(self) -> str:
        tally = self.tally
        if not tally.committed:
            return f"FAILED: nothing was committed, so nothing is proved (--seed {self.seed})."
        if self.is_good:
            return "Nothing lost, nothing invented."
        problems = [
            f"{len(numbers):,} {word}"
            for numbers, word in (
                (tally.lost, "lost"),
                (tally.late, "late"),
                (tally.phantom, "phantom"),
                (tally.inversions, "inversions"),
                (tally.early, "early"),
                *((numbers, name) for name, numbers in self._wrong_effects().items()),
            )
            if numbers
        ]
        return f"FAILED: {', '.join(problems)} (--seed {self.seed})."

    def as_object(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "good": self.is_good,
            "seed": self.seed,
            "faults": self.faults,
            "asked": self.asked,
            "committed": tally.committed,
            "keyed": tally.keyed,
            "scheduled": tally.scheduled,
            "rolled_back": tally.rolled_back,
            "in_doubt": tally.in_doubt,
            "received": tally.received,
            "lost": len(tally.lost),
            "late": len(tally.late),
            "phantom": len(tally.phantom),
            "inversions": len(tally.inversions),
            "early": len(tally.early),
            "lost_numbers": list(tally.lost),
            "late_numbers": list(tally.late),
            "phantom_numbers": list(tally.phantom),
            "inversions_numbers": list(tally.inversions),
            "early_numbers": list(tally.early),
            "duplicates": tally.duplicates,
            "duplicates_bound": self.duplicates_bound,
            "longest_recovery_seconds": round(self.recovery.seconds, 3) if self.recovery else 0.0,
            "longest_recovery_fault": self.recovery.kind if self.recovery else None,
            "consumer_kills": self.effects.kills if self.effects else None,
            "effects": self.effects.count if self.effects else None,
            **{name.replace(" ", "_"): len(numbers) for name, numbers in self._wrong_effects().items()},
        }


def _named(numbers: tuple[int, ...]) -> str:
    if not numbers:
        return ""
    more = f" and {len(numbers) - NAMED:,} more" if len(numbers) > NAMED else ""
    return f"numbers {', '.join(str(number) for number in numbers[:NAMED])}{more}"
