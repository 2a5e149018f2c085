"""``signalbus-relay inbox``: cleans the inbox of consumers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
import sqlalchemy as sa

from signalbus_core.inbox import clean, privileges_problem
from signalbus_core.inbox import table as inbox_table

from ..application.connection_parameters import refuse_rejected_parameters
from ..application.load import LoadingError
from ..application.outbox_tables.names import table_name
from ..config.click_options import fail
from ..config.resolve import ConfigError, find_database_url
from ..exit_codes import EXIT_RUNTIME
from ..option_types import read_count
from ..text import say, say_data
from .shared import failing_with_1

#: The default of --days. Longer than a message waits in a queue or an outbox, also after a long outage.
KEEP_DAYS = "30"

CONNECT_SECONDS = 10


def metadata_of(given: str) -> sa.MetaData:
    """Metadata in which the inbox has this name, perhaps with a schema.

    :raises click.UsageError: it is no name.
    """
    try:
        name = table_name(given)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    return sa.MetaData(schema=name.schema, info={"signalbus_inbox": name.name})


@click.group()
def inbox() -> None:
    """What consumers remember of the messages that they have processed."""


@inbox.command(
    "clean",
    epilog="Example: DATABASE_URL=postgresql://... signalbus-relay inbox clean --days 30\n\n"
    "Exit codes: 0 cleaned, 1 there is no such table or the database failed, 2 wrong usage.",
)
@click.option(
    "--database-url",
    metavar="URL",
    help="The consumers' database.  [SIGNALBUS_RELAY_DATABASE_URL[_FILE], DATABASE_URL]",
)
@click.option("--table", "name", metavar="NAME", default="signalbus_inbox", help="The inbox; signalbus_inbox.")
@click.option("--days", metavar="N", default=KEEP_DAYS, help=f"Delete ids that are older; {KEEP_DAYS}.")
@click.option("--json", "is_json", is_flag=True, help="As a JSON object.")
def inbox_clean(name: str, days: str, is_json: bool, **given: Any) -> None:
    """Delete the ids of messages that were received more than so many days ago.

    A message that is delivered again after that counts as new. So keep ids for longer than a message can wait in a
    queue or an outbox, or be sent again by hand. Consumers may work meanwhile. Run it once a day.
    """
    environ: Mapping[str, str] = click.get_current_context().obj
    table = inbox_table(metadata_of(name))
    try:
        number_of_days = read_count(1, 36_500)(days)
    except ValueError as error:
        raise click.UsageError(f"--days: {error}, not {days!r}.") from None
    try:
        engine = sa.create_engine(
            find_database_url(given, environ),
            poolclass=sa.NullPool,
            connect_args={
                "fallback_application_name": "signalbus-relay inbox clean",
                "connect_timeout": CONNECT_SECONDS,
            },
        )
        refuse_rejected_parameters({None: engine})
    except (ConfigError, LoadingError) as error:
        fail(error)
    with failing_with_1():
        with engine.connect() as connection:
            problem = privileges_problem(connection, table)
        if problem is not None:
            say(
                f"signalbus-relay: The table {table.fullname} {problem}. `signalbus-relay ddl inbox` creates it.",
                err=True,
            )
            sys.exit(EXIT_RUNTIME)
        deleted = clean(engine, number_of_days, table=table)
    if is_json:
        say_data(json.dumps({"table": table.fullname, "days": number_of_days, "deleted": deleted}))
    else:
        ids = "1 id" if deleted == 1 else f"{deleted:,} ids"
        say(f"{ids} deleted that consumers received more than {number_of_days} days ago.")
