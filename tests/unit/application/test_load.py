"""From ``module:attribute`` to an application; what can go wrong is said with what to do."""

from __future__ import annotations

import _thread
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from relay.application.load import LoadingError, find_bus, load_app
from tests.support.processes import COMMAND

Write = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Write]:
    """Write a module with this code into the current directory; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    name = f"loading_{abs(hash(request.node.name))}"

    def write(code: str) -> str:
        (tmp_path / f"{name}.py").write_text("from flask import Flask\n" + code)
        return name

    yield write
    sys.modules.pop(name, None)


def test_an_application_is_taken_as_it_is(module: Write) -> None:
    assert load_app(module("shop = Flask('one')") + ":shop").name == "one"


def test_a_factory_is_called(module: Write) -> None:
    assert load_app(module("def make(): return Flask('made')") + ":make").name == "made"


def test_a_factory_may_have_literal_arguments(module: Write) -> None:
    name = module("def make(name, *, suffix=''): return Flask(name + suffix)")
    assert load_app(f"{name}:make('a', suffix='b')").name == "ab"


@pytest.mark.parametrize("usual", ["app", "application", "create_app", "make_app"])
def test_without_an_attribute_the_usual_names_are_tried(module: Write, usual: str) -> None:
    assert load_app(module(f"{usual} = Flask('{usual}')")).name == usual


def test_a_path_to_a_file_will_do(module: Write) -> None:
    name = module("app = Flask('file')")
    assert load_app(f"{name}.py").name == "file"


@pytest.mark.parametrize(
    ("code", "attribute", "text"),
    [
        ("", "", "none of app, application, create_app, make_app"),
        ("", ":shop", "no attribute 'shop'"),
        ("shop = 5", ":shop", "a Flask application or a factory is expected"),
        ("def shop(): return 5", ":shop", "a Flask application or a factory is expected"),
        ("def shop(): raise ValueError('no settings')", ":shop", "ValueError: no settings (.*line 2, in shop)"),
        ("def shop(x): pass", ":shop", "TypeError"),
        ("import no_such_module", ":shop", "No module named 'no_such_module'"),
        ("1/0", ":shop", "ZeroDivisionError"),
        ("raise SystemExit('no settings')", ":shop", "SystemExit: no settings"),
        ("def shop(): raise GeneratorExit", ":shop", "GeneratorExit"),
        ("def shop(): pass", ":shop(__import__('os'))", "literal arguments"),
        ("def shop(): pass", ":shop)(", "literal arguments"),
    ],
)
def test_what_is_wrong_is_said(module: Write, code: str, attribute: str, text: str) -> None:
    with pytest.raises(LoadingError, match=text):
        load_app(module(code) + attribute)


@pytest.mark.parametrize("url", ["geheim", "postgresql:/u:geheim@h/db", "postgresql://u:p@h:geheim@h/db"])
def test_a_database_url_that_cannot_be_read_is_not_shown(module: Write, url: str) -> None:
    imported = "from flask_sqlalchemy import SQLAlchemy\n"
    made = (
        f"def shop():\n    app = Flask('x')\n    app.config['SQLALCHEMY_DATABASE_URI'] = {url!r}\n    SQLAlchemy(app)\n"
    )
    name = module(imported + made)
    with pytest.raises(LoadingError, match="the URL of a database cannot be read") as told:
        load_app(f"{name}:shop")
    assert "geheim" not in str(told.value)


def test_database_url_that_cannot_be_read_on_import_is_not_shown(module: Write) -> None:
    with pytest.raises(LoadingError, match="the URL of a database cannot be read") as told:
        load_app(module("from sqlalchemy import create_engine\ncreate_engine('postgresql:/u:geheim@h/db')"))
    assert "geheim" not in str(told.value)


def test_a_missing_module_is_told_from_one_that_it_imports(module: Write) -> None:
    module("")
    with pytest.raises(LoadingError, match=r"there is no module 'no_such_shop'.*current directory"):
        load_app("no_such_shop:app")


def test_a_missing_file_is_said() -> None:
    with pytest.raises(LoadingError, match="no such file"):
        load_app("no_such_shop.py")


def test_an_application_without_a_bus_is_told_how_to_get_one() -> None:
    with pytest.raises(LoadingError, match=r"class Database\(SignalBusMixin, SQLAlchemy\)"):
        find_bus(Flask("x"), ())


SHOP = """
from flask_sqlalchemy import SQLAlchemy
from signalbus_core import SignalBusMixin

class Database(SignalBusMixin, SQLAlchemy):
    pass

db = Database()

class Order(db.Model):
    id = db.Column(db.Integer, primary_key=True)

    def send_signalbus_message(self):
        pass

app = Flask("shop")
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db.init_app(app)

@app.teardown_appcontext
def close(error):
    raise {error}
"""


@pytest.mark.parametrize("error", ["RuntimeError('no request')", "SystemExit('no request')"])
def test_a_teardown_function_that_raises_is_told_at_the_start(module: Write, error: str) -> None:
    app = load_app(module(SHOP.replace("{error}", error)))
    with pytest.raises(LoadingError, match=r"teardown_appcontext raised \w+: no request .*in close\).*do nothing"):
        find_bus(app, ())


@pytest.mark.parametrize("code", ["app = Flask('x')", "1/0"])
def test_replaced_threads_are_refused_whatever_else_goes_wrong(
    module: Write, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def start_new_thread() -> None:
        """As gevent has it."""

    start_new_thread.__module__ = "gevent.thread"
    monkeypatch.setattr(_thread, "start_new_thread", start_new_thread)
    with pytest.raises(LoadingError, match=r"gevent has replaced the threads.*web server"):
        load_app(f"{module(code)}:app")


@pytest.mark.parametrize(
    "patch", ["from gevent.monkey import patch_all", "from eventlet import monkey_patch as patch_all"]
)
def test_application_that_is_patched_is_refused_in_one_sentence(tmp_path: Path, patch: str) -> None:
    pytest.importorskip(patch.split()[1].partition(".")[0])
    (tmp_path / "green.py").write_text(f"{patch}\npatch_all()\n{SHOP.replace('{error}', 'None')}")
    done = subprocess.run(
        [COMMAND, "run", "--app", "green", "--http", "off"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "has replaced the threads" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


# The end


LEAVES = """
import atexit, multiprocessing, os, threading
from flask import Flask

def hang():
    threading.Event().wait()

def start_thread():
    threading.Thread(target=hang, name="theirs").start()

def start_process():
    multiprocessing.get_context("fork").Process(target=hang_until_orphaned).start()

def hang_until_orphaned():
    parent = os.getppid()
    while os.getppid() == parent:
        threading.Event().wait(0.05)

def create_app():
    {leave}
"""


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        ("start_thread()", "threads of the application (theirs)"),
        ("atexit.register(hang)", "functions of the application at exit"),
        ("start_process()", "functions of the application at exit"),
    ],
)
def test_process_ends_with_its_exit_code_whatever_app_leaves(tmp_path: Path, leave: str, told: str) -> None:
    (tmp_path / "leaves.py").write_text(LEAVES.replace("{leave}", leave))
    done = subprocess.run(
        [COMMAND, "run", "--app", "leaves:create_app", "--http", "off", "--log-format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "a factory is expected" in done.stderr
    assert told in done.stderr
