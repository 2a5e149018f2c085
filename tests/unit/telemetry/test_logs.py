"""Log lines: sentences with an action, for people or as JSON, and never a password."""

from __future__ import annotations

import configparser
import io
import json
import logging
import logging.config
import logging.handlers
import os
import select
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.telemetry.logs import queue as log_queue
from relay.telemetry.logs.formats import JsonFormatter, TextFormatter, configure_logging, redact
from relay.telemetry.logs.loggers import output_as_log, release_loggers
from relay.telemetry.logs.queue import QueuedHandler
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = (logger.handlers[:], logger.level, logging.raiseExceptions, logging.getLogger("pika").level)
    yield logger
    for handler in logger.handlers:
        if isinstance(handler, QueuedHandler) and handler not in before[0]:
            handler.end()
    logger.handlers[:], logger.level, logging.raiseExceptions = before[:3]
    logging.getLogger("pika").setLevel(before[3])
    release_loggers()
    logging.captureWarnings(False)


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("test").makeRecord("test", logging.INFO, "f", 1, message, args, None, extra=extra)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amqp://user:pw@host:5672/", "amqp://user:***@host:5672/"),
        ("postgresql+psycopg2://u:p@ss:w@h/db", "postgresql+psycopg2://u:***@h/db"),
        ("amqp://:pw@host/ and amqps://a:b@c/", "amqp://:***@host/ and amqps://a:***@c/"),
        ("amqp://user@host:5672/", "amqp://user@host:5672/"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("amqp://user:p/w@host/v", "amqp://user:***@host/v"),
        ("postgresql://user:12/pw@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user@server:pw@host/db", "postgresql://user@server:***@host/db"),
        ("amqp://user@host:5672/v and a@b", "amqp://user@host:5672/v and a@b"),
        ("https://user:p/w@host/", "https://user:***@host/"),
        ("host=h password='p w' user=u", "host=h password=*** user=u"),
        ("postgresql://h/db?password=pw&user=u", "postgresql://h/db?password=***&user=u"),
        ('could not translate host name "w@h" to address', 'could not translate host name "***@h" to address'),
        ('connection to server at "w@h", port 1', 'connection to server at "***@h", port 1'),
        ("no url at all", "no url at all"),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.from_regex(r"[A-Za-z0-9!$&'()*+,;=._~%@:/?#-]{6,20}", fullmatch=True))
def test_no_password_is_shown_whatever_it_is_made_of(password: str) -> None:
    assert password not in redact(f"cannot reach amqp://user:{password}@host.example/vhost today")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_passwords_are_hidden_in_every_part_of_a_line(formatter: logging.Formatter) -> None:
    url = "amqp://user:secret@host/"
    line = record("at %s", url, action="x", url=url, many=[url], table={"deep": url}, thing=ValueError(url))
    try:
        raise ValueError(url)
    except ValueError as error:
        line.exc_info = (ValueError, error, error.__traceback__)
    assert "secret" not in formatter.format(line)


def test_a_text_line_is_time_level_sentence_and_facts() -> None:
    line = TextFormatter().format(record("Sent %d signals.", 3, action="sent", note="two words"))
    assert line.split(" ", 1)[1] == 'INFO Sent 3 signals. action=sent note="two words"'
    assert line.split(" ", 1)[0].endswith("Z")


def test_a_json_line_is_one_object_with_all_facts() -> None:
    line = JsonFormatter().format(record("Sent %d\nsignals.", 3, action="sent", key=object()))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["action"], fields["level"]) == ("Sent 3\nsignals.", "sent", "INFO")


def flush() -> None:
    for handler in logging.getLogger().handlers:
        handler.flush()


def test_configured_logging_replaces_what_was_there(root: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("json", "WARNING", stream)
    logging.getLogger("x").info("quiet")
    logging.getLogger("x").warning("loud")
    flush()
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_logging_configured_twice_keeps_the_order_of_lines(root: logging.Logger) -> None:
    stream = Pipe()
    configure_logging("text", "INFO", stream)
    logging.getLogger("x").info("first")
    configure_logging("json", "INFO", stream)
    logging.getLogger("x").info("second")
    assert len(root.handlers) == 1
    stream.is_read.set()
    flush()
    first, second = stream.getvalue().splitlines()
    assert first.endswith("INFO first")
    assert json.loads(second)["message"] == "second"


# An application that configures logging too


def configure_by_dict(root: logging.Logger) -> None:
    # As Flask's documentation has it; by default it disables all loggers that exist.
    logging.config.dictConfig(
        {
            "version": 1,
            "handlers": {
                "wsgi": {"class": "logging.StreamHandler", "stream": "ext://flask.logging.wsgi_errors_stream"}
            },
            "root": {"level": "INFO", "handlers": ["wsgi"]},
        }
    )


def configure_without_root(root: logging.Logger) -> None:
    logging.config.dictConfig({"version": 1, "loggers": {"shop": {"level": "INFO"}}})


def configure_by_file(root: logging.Logger) -> None:
    lines = ["[loggers]", "keys=root", "[handlers]", "keys=", "[formatters]", "keys=", "[logger_root]", "handlers="]
    file = configparser.ConfigParser()
    file.read_string("\n".join([*lines, "level=CRITICAL"]))
    logging.config.fileConfig(file)


def remove_handlers(root: logging.Logger) -> None:
    root.handlers.clear()


def raise_levels(root: logging.Logger) -> None:
    for name in (None, "signalbus", "signalbus.relay"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def stop_propagation(root: logging.Logger) -> None:
    logger = logging.getLogger("signalbus.relay")
    logger.propagate = False
    logger.addFilter(lambda record: False)


HUSHES: list[Callable[[logging.Logger], object]] = [
    configure_by_dict,
    configure_without_root,
    configure_by_file,
    remove_handlers,
    raise_levels,
    stop_propagation,
    lambda root: logging.basicConfig(force=True, level=logging.CRITICAL, handlers=[logging.NullHandler()]),
    lambda root: logging.disable(logging.CRITICAL),
    lambda root: logging.shutdown(),
]


@pytest.fixture
def own_logger(root: logging.Logger) -> Iterator[logging.Logger]:
    """A logger of the relay; afterwards it, and all others, are as before."""
    loggers = [one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    before = [(one, one.level, one.propagate, one.filters[:], one.disabled) for one in loggers]
    yield logging.getLogger("signalbus.relay")
    release_loggers()
    logging.disable(logging.NOTSET)
    for one, level, propagate, filters, disabled in before:
        one.setLevel(level)
        one.propagate, one.filters, one.disabled = propagate, filters, disabled


@pytest.mark.parametrize("hush", HUSHES)
def test_relay_tells_whatever_application_does_to_logging(
    own_logger: logging.Logger, root: logging.Logger, hush: Callable[[logging.Logger], object]
) -> None:
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    handler = root.handlers[0]
    hush(root)
    own_logger.info("told", extra={"action": "told"})
    own_logger.debug("not told")
    handler.flush()
    assert [json.loads(line)["action"] for line in stream.getvalue().splitlines()] == ["told"]
    # Also after the application is loaded, when logging is configured again.
    configure_logging("json", "INFO", stream)
    own_logger.info("told again")
    flush()
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["told", "told again"]


def refuse(*_: object, **__: object) -> Any:
    """As what needs a request does outside of one."""
    raise RuntimeError("Working outside of request context.")


def test_what_application_adds_to_logging_may_raise(own_logger: logging.Logger, root: logging.Logger) -> None:
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    theirs = logging.Handler()
    theirs.emit = refuse  # type: ignore[method-assign]
    root.addHandler(theirs)
    own_logger.addFilter(refuse)
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(refuse)
    try:
        own_logger.info("told %s", "all", extra={"action": "told"})
    finally:
        logging.setLogRecordFactory(before)
        root.removeHandler(theirs)
    flush()
    [line] = map(json.loads, stream.getvalue().splitlines())
    assert (line["message"], line["action"]) == ("told all", "told")


def test_application_that_replaces_standard_error_takes_no_line(
    own_logger: logging.Logger, root: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, theirs = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("text", "INFO")
    monkeypatch.setattr(sys, "stderr", theirs)
    configure_logging("text", "INFO")
    own_logger.info("told")
    flush()
    assert "told" in stream.getvalue()
    assert theirs.getvalue() == ""


def test_handlers_of_the_application_get_the_relays_lines_too(own_logger: logging.Logger, root: logging.Logger) -> None:
    configure_logging("json", "INFO", io.StringIO())
    theirs = logging.handlers.BufferingHandler(10)
    root.addHandler(theirs)
    own_logger.warning("told")
    root.removeHandler(theirs)
    assert [record.getMessage() for record in theirs.buffer] == ["told"]


def test_json_log_has_no_line_of_text_while_app_is_loaded(
    own_logger: logging.Logger, root: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    configure_logging("json", "INFO", stream)
    handler = root.handlers[0]
    with output_as_log("json"):
        logging.basicConfig(force=True, level=logging.INFO)
        logging.getLogger("theirs").info("logged")
        print("printed", end="")  # noqa: T201 - as an application may do
        sys.stderr.write("two\nlines\n")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("beware", UserWarning, stacklevel=1)
    # A handler that was made meanwhile outlives the loading.
    logging.getLogger("theirs").info("logged later")
    handler.flush()
    lines = [json.loads(line)["message"] for line in stream.getvalue().splitlines()]
    assert lines[0] == "INFO:theirs:logged"
    assert {"printed", "two", "lines", "INFO:theirs:logged later"} < {*lines}
    assert any("beware" in line for line in lines)
    assert capfd.readouterr() == ("", "")


class FullDisk(io.StringIO):
    """Has no room until it is made."""

    has_room = False

    def write(self, text: str) -> int:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_stops_nobody(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", "INFO", FullDisk())
    logging.getLogger("x").info("lost")
    flush()
    assert capsys.readouterr().err == ""


def test_lines_that_could_not_be_written_are_counted_later(root: logging.Logger) -> None:
    disk = FullDisk()
    configure_logging("json", "INFO", disk)
    for _ in range(3):
        logging.getLogger("x").info("lost")
    flush()
    disk.has_room = True
    logging.getLogger("x").info("kept")
    flush()
    gap, kept = [json.loads(line) for line in disk.getvalue().splitlines()]
    assert (gap["action"], gap["level"], gap["lines"], kept["message"]) == ("log_lines_dropped", "WARNING", 3, "kept")


# A log that nobody reads


class Pipe(io.StringIO):
    """A stream whose reader does something else until ``is_read`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = threading.Event()
        self.waits = threading.Event()

    def write(self, text: str) -> int:
        self.waits.set()
        self.is_read.wait(30)
        return super().write(text)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.is_read.set()


@pytest.fixture
def queued(pipe: Pipe) -> Iterator[QueuedHandler]:
    """A handler with room for four lines, whose writer is at the line "0"."""
    handler = QueuedHandler(pipe, longest_queue=4)
    handler.handle(record("0"))
    assert pipe.waits.wait(10)
    yield handler
    pipe.is_read.set()
    handler.end()


def test_what_finds_no_room_is_dropped_and_the_gap_is_told_where_it_is(pipe: Pipe, queued: QueuedHandler) -> None:
    for number in range(1, 8):
        queued.handle(record(str(number)))
    pipe.is_read.set()
    queued.flush()
    queued.handle(record("8"))
    queued.flush()
    *before, gap, after = pipe.getvalue().splitlines()
    assert (before, after) == (["0", "1", "2", "3", "4"], "8")
    assert gap.startswith("3 log lines were lost here")


def test_slow_reader_is_told_of_one_gap_not_of_every_line(pipe: Pipe, queued: QueuedHandler) -> None:
    for number in range(1, 6):
        queued.handle(record(str(number)))
    # Room for one line only: as before, lines are lost.
    writer = queued._own_writer()
    assert writer is not None
    assert writer.lines.get_nowait() == (0, "1")
    writer.lines.task_done()
    queued.handle(record("6"))
    pipe.is_read.set()
    queued.flush()
    assert [line[:16] for line in pipe.getvalue().splitlines() if "lost" in line] == ["2 log lines were"]


def test_flushing_takes_a_limited_time_when_nobody_reads(
    pipe: Pipe, queued: QueuedHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_queue, "FLUSH_SECONDS", 0.05)
    started = time.monotonic()
    queued.flush()
    assert time.monotonic() - started < 10
    assert pipe.getvalue() == ""


def test_flushing_waits_for_the_line_that_is_being_written(pipe: Pipe, queued: QueuedHandler) -> None:
    threading.Timer(0.05, pipe.is_read.set).start()
    queued.flush()
    assert pipe.getvalue() == "0\n"


def test_a_line_says_what_was_so_when_it_was_logged(pipe: Pipe, queued: QueuedHandler) -> None:
    keys = [1]
    queued.handle(record("%s", keys))
    keys.append(2)
    pipe.is_read.set()
    queued.flush()
    assert pipe.getvalue() == "0\n[1]\n"


def test_lines_of_an_ended_handler_are_still_written(pipe: Pipe, queued: QueuedHandler) -> None:
    queued.handle(record("1"))
    queued.end()
    pipe.is_read.set()
    eventually(lambda: pipe.getvalue() == "0\n1\n")


FORK = """
import logging, os, sys
from relay.telemetry.logs.queue import QueuedHandler
from relay.telemetry.logs.loggers import output_as_log, release_loggers
handler = QueuedHandler(open(sys.argv[1], "w"))
logging.getLogger().addHandler(handler)
logging.warning("parent")
handler.flush()
child = os.fork()
if child == 0:
    logging.warning("child")
    logging.shutdown()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
logging.warning("parent again")
"""


def test_a_forked_process_writes_its_own_lines_and_no_others(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORK, tmp_path / "log"], check=True, cwd=ROOT)
    assert (tmp_path / "log").read_text() == "parent\nchild\nparent again\n"


CONVERSATION = """
import logging, os, select, socket, sys
from relay.telemetry.logs.formats import configure_logging
configure_logging("text", "INFO")
if sys.argv[1] == "closed later":
    os.close(2)
pair = socket.socketpair()
logging.warning("a line")
logging.shutdown()
sys.exit(len(select.select(pair, [], [], 0)[0]))
"""


@pytest.mark.parametrize("when", ["closed first", "closed later"])
def test_no_line_goes_to_socket_numbered_as_standard_error(when: str) -> None:
    start = 'exec "$@" 2>&-' if when == "closed first" else 'exec "$@"'
    done = subprocess.run(
        ["sh", "-c", start, "sh", sys.executable, "-c", CONVERSATION, when],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0
    assert ("a line" in done.stderr) == (when == "closed later")


def test_an_output_that_is_set_not_to_block_loses_nothing() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines: list[str] = []
    with os.fdopen(reader) as output, os.fdopen(writer, "w") as stream:
        handler = QueuedHandler(stream)
        reading = threading.Thread(target=lambda: lines.extend(output))
        for _ in range(100):
            handler.handle(record("x" * 4095))
        # The pipe is full before anything is read.
        eventually(lambda: not select.select([], [writer], [], 0)[1])
        reading.start()
        handler.flush()
        handler.end()
        stream.close()
        reading.join(10)
    assert lines == ["x" * 4095 + "\n"] * 100


def test_a_line_after_a_torn_one_begins_anew(tmp_path: Path) -> None:
    code = (
        "import os, resource, signal, sys\n"
        "from relay.telemetry.logs.queue import Output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "output = Output(open(sys.argv[1], 'w'))\n"
        "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))\n"
        "try: output.write('long line')\n"
        "except OSError: pass\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "output.write('next')\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "log"], check=True, cwd=ROOT)
    assert (tmp_path / "log").read_text() == "long \nnext\n"


@given(st.text(st.characters(categories=["Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=3))
def test_no_text_forges_a_line_or_moves_a_cursor(evil: str) -> None:
    forged = f"x{evil}2026-01-31T12:00:00.123Z INFO forged"
    try:
        raise ValueError(forged)
    except ValueError:
        line = record("%s failed", forged, action=forged)
        line.exc_info = sys.exc_info()
    first, *traceback = TextFormatter().format(line).split("\n")
    assert first.isprintable()
    assert all(one.isprintable() and one.startswith("    ") for one in traceback)
    assert JsonFormatter().format(line).isprintable()
