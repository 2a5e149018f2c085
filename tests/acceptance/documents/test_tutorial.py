"""The tutorial, word by word: each step is typed, and shows what the page says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefork import stand_ins
from tests.support.reader import Reader, commands, snippets

PAGE = (Path(__file__).parents[3] / "docs/tutorial.md").read_text()
NAIVE, SHOP, WAREHOUSE = snippets(PAGE, "python")


@pytest.fixture
def reader(tmp_path: Path, database_url: str, empty_amqp_url: str) -> Iterator[Reader]:
    for name, text in {"naive": NAIVE, "shop": SHOP, "warehouse": WAREHOUSE}.items():
        (tmp_path / f"{name}.py").write_text(text)
    environ = {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": empty_amqp_url,
        "PATH": f"{stand_ins(tmp_path / 'programs')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    reader = Reader(tmp_path, os.environ | environ, ports=(5000, 5001, 9111, 9112, 9113))
    yield reader
    reader.close()


#: What commands show that are typed once. Orders are typed again until the shop answers.
SHOWS = {
    'curl --silent --json \'{"item": "honey"}\' http://127.0.0.1:5001/orders': "Internal Server Error",
    "curl --silent http://127.0.0.1:5001/orders": '"1":"honey"',
    'curl --silent --json \'{"item": "tea", "delivery": "2030-05-01"}\' http://127.0.0.1:5000/orders': '{"order":2}',
    "signalbus-relay pending --app shop": "OrderPlaced  1",
    'curl --silent --json \'{"item": "coffee", "delivery": "2030-05-02"}\' http://127.0.0.1:5000/orders': '{"order":3}',
    'curl --silent --json \'{"item": "milk"}\' http://127.0.0.1:5000/orders': '{"order":4}',
    'curl --silent --json \'{"item": "bread", "delivery": "2030-05-03"}\' http://127.0.0.1:5000/orders': '{"order":5}',
    "signalbus-relay pending": "OrderPlaced  1",
    "signalbus-relay parked list": "AttributeError: 'NoneType' object has no attribute 'isoformat'",
    "signalbus-relay explain OrderPlaced 3": "waiting for its next try",
    "signalbus-relay parked retry OrderPlaced": " will be tried again.",
}

#: What the warehouse packs, each time it is started.
PACKED = [
    "Order 2: tea is packed.",
    "Order 3: coffee is packed.",
    "Order 5: bread is packed.",
    "Order 4: milk is packed.",
]


def fix(shop: Path) -> None:
    """Apply the page's change."""
    [diff] = snippets(PAGE, "diff")
    old, new = ("".join(line[1:] + "\n" for line in diff.splitlines() if line[0] == sign) for sign in "-+")
    assert shop.read_text().count(old) == 1
    shop.write_text(shop.read_text().replace(old, new))


def test_the_tutorial_works_as_written(reader: Reader, tmp_path: Path) -> None:
    packed = iter(PACKED)
    preparation, typed = commands(PAGE)[:5], commands(PAGE)[5:]
    assert [line.split()[0] for line in preparation] == ["python3", ".", "pip", "export", "export"]
    assert set(SHOWS) < set(typed)
    seen = ""
    for command in typed:
        if "run --http 127.0.0.1:9111" in command:
            # It will be killed. A stand-in would leave the process that it stands for.
            command = command.replace("signalbus-relay", str(Path(sys.executable).parent / "signalbus-relay"))
        if command == "kill '%?9112'":
            fix(tmp_path / "shop.py")
        if command == "python warehouse.py":
            seen += reader.until(command, next(packed))
        elif command in SHOWS:
            reader.until(command, SHOWS[command])
        else:
            reader.types(command)
    assert next(packed, None) is None
    assert seen.count("is packed.") == len(PACKED)
