"""``signalbus-relay describe`` and ``rehearse``: the contract with consumers, and a trial of a release."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..application.databases import Databases
from ..application.load import LoadedApp
from ..config.click_options import fail, with_application
from ..contract.compare import compare
from ..contract.described import Described
from ..contract.document import DocumentError, from_text, to_document, to_text
from ..contract.gather import describe as described_by
from ..contract.kept import Kept
from ..contract.pending import Pending, Source
from ..contract.rehearse import FailedBuild, Rehearsal
from ..contract.rehearse import rehearse as rehearse_all
from ..exit_codes import EXIT_OK, EXIT_RUNTIME
from ..text import redact, say, say_data
from .shared import failing_with_1, load

#: The default of --samples. More: rarer fields are seen; less: it takes less time.
SAMPLES = 200


@click.command(
    epilog="Example: signalbus-relay describe --app shop:create_app > contract.json\n\n"
    "Exit codes: 0 described, or nothing breaks consumers, 1 something does or a table cannot be read, 2 wrong usage."
)
@click.option(
    "--check",
    "old",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Print what breaks the consumers of this earlier description, instead of the description.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=SAMPLES,
    metavar="N",
    help=f"Look at so many pending signals of each model; {SAMPLES}. With 0, no database is needed.",
)
@click.option("--title", metavar="TEXT", help="The title of the document; the name of the application.")
@click.option("--release", metavar="TEXT", default="unversioned", help="The version in the document.")
@with_application
def describe(old: Path | None, samples: int, title: str | None, release: str, **given: Any) -> None:
    """Write an AsyncAPI 3.0 document of the signals: exchange, routing key, content type, headers, fields.

    What models do not declare is taken from pending signals, and marked by x-signalbus-sampled. No value of a field
    is written. Nothing is sent or changed.
    """
    earlier = None if old is None else _read(old)
    loaded = load(given)
    with failing_with_1():
        found = _describe(loaded, samples)
    document = to_document(found, title or loaded.app.name, release)
    if earlier is None:
        say_data(to_text(document))
        sys.exit(EXIT_OK)
    # Both are read from documents, so that they differ only where these do.
    result = compare(earlier, from_text(to_text(document)))
    for sentence in result.unknown:
        say(sentence, err=True)
    for sentence in result.breaking:
        say(sentence)
    if not result.breaking:
        say("Nothing breaks consumers.")
    sys.exit(EXIT_RUNTIME if result.breaking else EXIT_OK)


def _describe(loaded: LoadedApp, samples: int) -> list[Described]:
    pending = Pending(loaded.app, loaded.bus.db, samples)
    with loaded.app.app_context():
        # The addresses and time limits of a database are not needed where none is read.
        specs = Databases(loaded).specs if samples else loaded.bus.specs()
        return described_by(specs, pending.build if samples else lambda _: ())


def _read(path: Path) -> list[Described]:
    try:
        return from_text(path.read_text(encoding="utf-8"))
    except (DocumentError, UnicodeDecodeError, OSError) as error:
        fail(DocumentError(f"--check {path}: {error}."))


@click.command(
    epilog="Example: signalbus-relay rehearse --app shop:create_app\n\n"
    "Exit codes: 0 every message can be built, 1 one cannot, a table cannot be read, or a column of kept rows looks "
    "renamed, 2 wrong usage."
)
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--pending", "only_pending", is_flag=True, help="Leave out the signals that were sent and are kept.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
@with_application
def rehearse(models: tuple[str, ...], only_pending: bool, is_json: bool, **given: Any) -> None:
    """Build the message of every pending and every kept signal with the code of this application, and send none.

    Run it with a new release, against the database that it will work on, before it is deployed. Transactions are
    read-only, and rolled back. Models with a send method of their own cannot be rehearsed.
    """
    loaded = load(given)
    with failing_with_1():
        databases = Databases(loaded)
        specs = [databases.spec(model) for model in dict.fromkeys(models)] or databases.specs
        with loaded.app.app_context():
            sources: list[Source] = [Pending(loaded.app, loaded.bus.db)]
            if not only_pending:
                sources.append(Kept(loaded.app, loaded.bus.db, databases))
            found = rehearse_all(specs, sources)
    for one in found:
        if is_json:
            say_data(_as_json(one))
        else:
            say(_as_line(one))
            for warning in one.warnings:
                say(f"  {warning}.")
            for failed in one.told:
                say(f"  {_key(failed)}: {failed.reason}")
            if one.failed > len(one.told):
                say(f"  and {one.failed - len(one.told):,} more")
    sys.exit(EXIT_RUNTIME if any(one.has_failed for one in found) else EXIT_OK)


def _as_line(one: Rehearsal) -> str:
    if one.sends_itself:
        return f"{one.model}: cannot be rehearsed, because it has a send method of its own."
    if one.problem is not None:
        return f"{one.model}: the {one.source} signals cannot be read: {one.problem}"
    text = f"{one.model}: {one.built:,} {one.source} signal{'' if one.built == 1 else 's'} can be built"
    text += f", {one.failed:,} cannot." if one.failed else "."
    if one.by_themselves:
        text += f" {one.by_themselves:,} were left out: their class has a send method of its own."
    return text


def _key(failed: FailedBuild) -> str:
    return ":".join(map(str, failed.key)) if failed.key else "a row"


def _as_json(one: Rehearsal) -> str:
    shown = asdict(one)
    shown["told"] = [
        {"key": [str(part) for part in failed.key], "reason": redact(failed.reason)} for failed in one.told
    ]
    shown["problem"] = one.problem and redact(one.problem)
    return json.dumps(shown)
