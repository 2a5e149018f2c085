"""``signalbus-relay init``: the files of a new application, from three answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ...text import say, shell_word
from ..shared import failing_with_1
from .answers import Answers, checked_exchange, checked_module, checked_signal
from .files import rendered, write


def _checked(check: Callable[[str], str]) -> Callable[[click.Context, click.Parameter, str], str]:
    def callback(_context: click.Context, _parameter: click.Parameter, given: str) -> str:
        try:
            return check(given.strip())
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from None

    return callback


@click.command(epilog="Example: signalbus-relay init --directory shop")
@click.option(
    "--module",
    prompt="Module of the application",
    default="shop",
    callback=_checked(checked_module),
    help="Python module that is written.",
)
@click.option(
    "--signal",
    prompt="What does it announce",
    default="OrderPlaced",
    callback=_checked(checked_signal),
    help="Class of the signal; its table and its routing key are named after it.",
)
@click.option(
    "--exchange",
    prompt="Exchange that its messages go to",
    default="orders",
    callback=_checked(checked_exchange),
    help="Topic exchange in RabbitMQ.",
)
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the files are written; the current directory, unless given.",
)
def init(module: str, signal: str, exchange: str, directory: Path) -> None:
    """Write the files of a new application: model, migration, compose file, alert rules.

    Asks three questions, unless the options answer them. Changes no file that is there: then nothing is written.
    """
    texts = rendered(Answers(module, signal, exchange))
    with failing_with_1():
        write(directory, texts)
    for name in texts:
        say(f"written: {directory / name}")
    say("")
    say("With Docker: docker compose up --build. Without: set DATABASE_URL and RABBITMQ_URL, then")
    if directory != Path():
        say(f"  cd {shell_word(str(directory))}")
    for line in (
        "pip install --requirement requirements.txt",
        "alembic upgrade head",
        f"flask --app {module} declare",
        f"signalbus-relay run --app {module}:create_app &",
        f"flask --app {module} announce '{{\"number\": 1}}'",
        f"flask --app {module} receive",
    ):
        say(f"  {line}")
