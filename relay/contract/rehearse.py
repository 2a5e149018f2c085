"""Rehearses a release: builds the message of each signal with its code, and sends none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.exc import SQLAlchemyError

from signalbus_core.lowlevel import Key, SignalSpec, error_text
from signalbus_core.rabbitmq import sends_itself

from .pending import Source

#: So many failures of a model are told; all are counted.
MOST_TOLD = 20


@dataclass(frozen=True)
class FailedBuild:
    """A signal of which no message can be made.

    :param key: empty when its row cannot be loaded.
    """

    key: Key
    reason: str


@dataclass
class Rehearsal:
    """What became of one model's signals.

    :ivar source: where they come from.
    :ivar built: of how many the messages were made.
    :ivar messages: how many these are.
    :ivar failed: how many signals failed.
    :ivar told: the first of these.
    :ivar by_themselves: how many were left out, because their class has a send method of its own.
    :ivar problem: why the signals cannot be read.
    :ivar warnings: what a person should look at, though messages can be built.
    """

    model: str
    source: str
    built: int = 0
    messages: int = 0
    failed: int = 0
    told: list[FailedBuild] = field(default_factory=list)
    by_themselves: int = 0
    sends_itself: bool = False
    problem: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def has_failed(self) -> bool:
        return bool(self.failed or self.warnings) or self.problem is not None


def rehearse(specs: Iterable[SignalSpec], sources: Sequence[Source]) -> list[Rehearsal]:
    """Build the messages of all signals of these models. A table that cannot be read hides no other model."""
    return [found for spec in specs for found in _rehearse_all(spec, sources)]


def _rehearse_all(spec: SignalSpec, sources: Sequence[Source]) -> list[Rehearsal]:
    classes = [one.class_ for one in spec.mapper.self_and_descendants]
    if all(map(sends_itself, classes)):
        return [Rehearsal(spec.name, sources[0].name, sends_itself=True)]
    return [found for source in sources if (found := _rehearse(spec, source)) is not None]


def _rehearse(spec: SignalSpec, source: Source) -> Rehearsal | None:
    result = Rehearsal(spec.name, source.name)
    try:
        if not source.has(spec):
            return None
        result.warnings = source.warnings(spec)
        for built in source.build(spec):
            if sends_itself(built.model):
                result.by_themselves += 1
            elif built.problem is None:
                result.built += 1
                result.messages += len(built.messages)
            else:
                result.failed += 1
                if len(result.told) < MOST_TOLD:
                    result.told.append(FailedBuild(built.key, built.problem))
    except SQLAlchemyError as error:
        result.problem = error_text(error)
    return result
