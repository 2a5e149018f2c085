"""Builds a Flask application for outbox tables without one, from their definitions in the database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from signalbus_core.lowlevel import BurstLimits, autocommit

from ..connection_parameters import refuse_rejected_parameters, refuse_rejected_settings
from ..databases import limit_connections
from ..load import LoadedApp, LoadingError
from ..own_app import own_database
from .catalog import find_tables
from .mapping import Plan, plan_all
from .model import make_model
from .row_choice.choice import passed_over_text, text_of_missing_rule
from .row_choice.counts import counted
from .row_choice.done import trial_problem
from .row_choice.trial import where_problem
from .rules import TableRules

#: The key of the models in ``app.extensions``.
MODELS = "signalbus_tables"

#: Time limits of the catalog queries.
LIMITS = BurstLimits(statement_timeout_seconds=10.0, lock_timeout_seconds=5.0, idle_timeout_seconds=10.0)


class TablesError(LoadingError):
    """Tables cannot be relayed.

    :param problems: why, by the name of the table, in the order of the report.
    :param columns_without_rule: the same, for tables whose only problem is that no option says which rows are sent.
    """

    def __init__(self, problems: Sequence[str], columns_without_rule: Sequence[str]) -> None:
        self.problems, self.columns_without_rule = tuple(problems), tuple(columns_without_rule)
        super().__init__("\n".join([*problems, *columns_without_rule]))


def load_tables(database_url: str | None, rules: Sequence[TableRules], workers: int) -> LoadedApp:
    """Find the tables, and build an application with them as signal models.

    :param workers: how many threads send bursts.
    :raises TablesError: some of them cannot be relayed; it has all problems.
    :raises sqlalchemy.exc.SQLAlchemyError: the database cannot be queried.
    """
    app, db = own_database(database_url, workers)
    with app.app_context():
        limit_connections(db.engine)
        refuse_rejected_parameters(db.engines)
        try:
            with autocommit(db.engine, LIMITS) as connection:
                facts = find_tables(connection, [one.name for one in rules])
            plans = plan_all(facts, rules)
            _refuse_problems(db.engine, plans)
        except Exception as error:
            if isinstance(error, OperationalError):
                refuse_rejected_settings(db.engines)
            db.engine.dispose()
            raise
        # SQLAlchemy holds only weak references to classes, so keep them here.
        app.extensions[MODELS] = [make_model(db, plan) for plan in plans]
    remarks = [f"--table {one.facts.name}: {passed_over_text(column)}" for one in plans for column in one.passed_over]
    return LoadedApp(app, db.signalbus, tuple(remarks))


def _refuse_problems(engine: Engine, plans: Sequence[Plan]) -> None:
    problems: list[str] = []
    columns_without_rule: list[str] = []
    for plan in plans:
        label = f"--table {plan.facts.name}"
        problems += plan.problems
        if plan.rules.where is not None and plan.facts.oid is not None:
            problem = where_problem(engine, plan.facts, plan.rules.where, LIMITS)
            problems += [] if problem is None else [f"{label}: --where: {problem}"]
            if problem is None and plan.rules.marks is not None and plan.rules.where and not plan.problems:
                problem = trial_problem(engine, plan.facts, plan.rules.where, plan.rules.marks, LIMITS)
                problems += [] if problem is None else [f"{label}: --done: {problem}"]
        if plan.columns_without_rule:
            with autocommit(engine, LIMITS) as connection:
                texts = [
                    text_of_missing_rule(one, counted(connection, plan.facts, one)) for one in plan.columns_without_rule
                ]
            columns_without_rule += [f"{label}: {text}" for text in texts]
    if problems or columns_without_rule:
        raise TablesError(problems, columns_without_rule)
