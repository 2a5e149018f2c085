"""The contents of the tables: backlogs that no relay sends, parked signals, paused models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError

from signalbus_core.lowlevel import (
    Measurement,
    Pause,
    SignalSpec,
    count_unloadable_keys,
    find_faulty_row,
    measure,
    parked_table_of,
    parked_table_problem,
    paused,
    paused_table_of,
    paused_table_problem,
    table_problem,
)

from ..poller.diagnosis.failures import failure_of_model
from ..poller.diagnosis.unreadable import condition_fails
from ..telemetry.remedies import remedy_for
from ..telemetry.states import ModelFacts, ModelState, state_of
from ..text import shell_word, time_text
from .finding import Finding, found

#: A backlog of this size is a finding, and counting stops there. A relay that keeps up has far fewer.
MOST_PENDING = 10_000


def check_signals(
    connection: Connection, specs: Sequence[SignalSpec], most_pending: int = MOST_PENDING
) -> Iterator[Finding]:
    for spec in specs:
        if table_problem(connection, spec) is None:
            yield from _of_rows(connection, spec, most_pending)
        if paused_table_problem(connection, paused_table_of(spec)) is None:
            yield from pause_findings(paused.list_pauses(connection, [spec]))


def _of_rows(connection: Connection, spec: SignalSpec, most_pending: int) -> Iterator[Finding]:
    has_parked_table = parked_table_problem(connection, parked_table_of(spec)) is None
    try:
        with connection.begin_nested():
            [measured] = measure(connection, [spec], most_pending, has_parked_table=has_parked_table)
    except DataError:
        if (row := find_faulty_row(connection, spec)) is None:
            raise
        reason = condition_fails(row)
        yield found("condition-fails", spec.name, reason, remedy_for("model_unread", reason).text)
        return
    yield from backlog_findings(spec.name, measured, most_pending)
    if measured.backlog < most_pending:
        failure = failure_of_model(connection, spec) if has_parked_table and measured.waiting else None
        counts = (measured.backlog, measured.waiting, measured.parked, measured.age_seconds)
        yield from state_findings(spec.name, state_of(ModelFacts(*counts, failure=failure)))
    yield from key_findings(spec, count_unloadable_keys(connection, spec, most_pending))


def backlog_findings(model: str, measured: Measurement, most_pending: int) -> Iterator[Finding]:
    if measured.backlog >= most_pending:
        problem = f"{most_pending:,} signals or more are pending"
        yield found("backlog-high", model, problem, remedy_for("backlog", problem).text)
    if measured.parked:
        problem = f"{_signals(measured.parked, 'is parked and waits', 'are parked and wait')} for a person"
        remedy = f"See why with `signalbus-relay parked list {shell_word(model)}`, then retry or discard them."
        yield found("signals-parked", model, problem, remedy)
    if measured.waiting:
        problem = f"{_signals(measured.waiting, 'failed and waits for its', 'failed and wait for their')} next try"
        remedy = f"See why with `signalbus-relay parked list {shell_word(model)}`."
        yield found("signals-waiting", model, problem, remedy)


def state_findings(model: str, state: ModelState) -> Iterator[Finding]:
    """What only its whole shows: that everything of it fails, or that it is behind."""
    if state.word in ("failing", "behind"):
        remedy = state.remedy.text if state.remedy else ""
        yield found(f"model-{state.word}", model, f"it is {state.word}: {state.reason}", remedy)


def _signals(number: int, one: str, many: str) -> str:
    return f"1 signal {one}" if number == 1 else f"{number} signals {many}"


def key_findings(spec: SignalSpec, unloadable: int) -> Iterator[Finding]:
    if unloadable:
        problem = f"{unloadable} signals have keys that Python cannot hold, and no relay sends them"
        remedy = f"In {spec.table.fullname}, give them keys from the year 1 to 9999; a CHECK keeps others out."
        yield found("key-unloadable", spec.name, problem, remedy)


def pause_findings(pauses: Iterable[Pause]) -> Iterator[Finding]:
    for pause in pauses:
        reason = f" ({pause.reason})" if pause.reason else ""
        problem = f"it is paused since {time_text(pause.paused_at)}{reason}: no relay sends its signals"
        remedy = f"`signalbus-relay resume {shell_word(pause.model)}` ends it."
        yield found("model-paused", pause.model, problem, remedy)
