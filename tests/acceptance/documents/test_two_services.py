"""docs/two-services.md, word by word: two services hear of each other, also after their parts were killed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.prefork import stand_ins
from tests.support.reader import Reader, commands
from tests.support.servers import Postgres

PAGE = (Path(__file__).parents[3] / "docs/two-services.md").read_text()

#: Takes the place of uvicorn and curl: the application answers a request.
CLIENT = """\
import sys
from fastapi.testclient import TestClient
from orders_api import app

with TestClient(app) as client:
    print(client.request(sys.argv[1], sys.argv[2]).text)
"""

#: What a request shows in the end.
SHOWS = {
    "POST /orders/tea": '{"order_id":1}',
    "GET /orders/1": '"is_paid":true',
    "POST /orders/coffee": '{"order_id":2}',
    "GET /orders/2": '"is_paid":true',
}


@pytest.fixture
def reader(tmp_path: Path, postgres: Postgres, empty_amqp_url: str) -> Iterator[Reader]:
    for name, text in re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    (tmp_path / "client.py").write_text(CLIENT)
    environ = {
        "ORDERS_URL": postgres.create_database(),
        "BILLING_URL": postgres.create_database(),
        "RABBITMQ_URL": empty_amqp_url,
        "PATH": f"{stand_ins(tmp_path / 'programs')}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    reader = Reader(tmp_path, os.environ | environ, ports=(9111, 9112, 9113))
    yield reader
    reader.close()


def request_of(command: str) -> str | None:
    """The request that curl makes."""
    found = re.match(r"curl --silent (?:--request (\w+) )?http://127\.0\.0\.1:8001(\S+)", command)
    return found and f"{found[1] or 'GET'} {found[2]}"


def test_two_services_exchange_signals_as_written(reader: Reader) -> None:
    preparation, typed = commands(PAGE)[:8], commands(PAGE)[8:]
    assert [line.split()[0] for line in preparation] == ["python3", ".", "pip", *["export"] * 3, "createdb", "createdb"]
    asked = []
    for command in typed:
        if (request := request_of(command)) is not None:
            reader.until(f"python client.py {request}", SHOWS[request])
            asked.append(request)
        elif not command.startswith("uvicorn"):
            reader.types(command)
    assert asked == list(SHOWS)
