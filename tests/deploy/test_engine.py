"""The image, built and run, and docker-compose.yml under load. Needs a Docker engine.

Images come from these variables where the engine cannot fetch the usual ones: ``BASE_IMAGE``, ``POSTGRES_IMAGE`` and
``RABBITMQ_IMAGE``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually

from .test_shop import free_port
from .tools import ROOT, compose_program, needs_engine, output_of

pytestmark = needs_engine

BASE_IMAGE = os.environ.get("BASE_IMAGE", "python:3.12-slim")

WITHOUT_RIGHTS = ("--rm", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def build(tag: str, *arguments: str) -> str:
    output_of(
        *("docker", "build", "--quiet", "--tag", tag, *arguments),
        environ={"DOCKER_BUILDKIT": "1"},
        timeout_seconds=600,
    )
    return tag


@pytest.fixture(scope="module")
def image() -> str:
    return build("signalbus-relay:test", "--build-arg", f"BASE_IMAGE={BASE_IMAGE}", ".")


@pytest.mark.parametrize("user", ["10001:10001", "4711:0"])
def test_the_image_needs_no_rights_and_writes_nothing(image: str, user: str) -> None:
    output = output_of("docker", "run", *WITHOUT_RIGHTS, "--network", "none", "--user", user, image, "--version")
    assert output.startswith("signalbus-relay, version ")


def test_the_image_without_an_application_says_what_is_missing(image: str) -> None:
    done = subprocess.run(["docker", "run", *WITHOUT_RIGHTS, image], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--app" in done.stderr


def test_an_image_with_an_application_is_built_in_three_lines(image: str, tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/deploy.md").read_text()
    (lines,) = re.findall(r"^```dockerfile\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(lines.splitlines()) == 3
    (tmp_path / "Dockerfile").write_text(re.sub(r"signalbus-relay:\S+", image, lines))
    (tmp_path / "requirements.txt").write_text("Flask-SQLAlchemy\n")
    shutil.copy(ROOT / "deploy/demo/shop.py", tmp_path)
    mine = build("signalbus-shop:test", str(tmp_path))
    loaded = output_of(
        "docker", "run", *WITHOUT_RIGHTS, "--entrypoint", "python3", mine, "-c", "import shop; print(shop.EXCHANGE)"
    )
    assert loaded == "shop\n"


class Compose:
    """The project of docker-compose.yml under a name of its own."""

    def __init__(self, image: str) -> None:
        self.environ = {
            "COMPOSE_PROJECT_NAME": f"signalbus-{os.getpid()}",
            "SIGNALBUS_IMAGE": image,
            "BASE_IMAGE": BASE_IMAGE,
            "SHOP_PORT": str(free_port()),
            "ORDERS_PER_SECOND": "100",
        }

    def __call__(self, *arguments: str) -> str:
        return output_of(compose_program(), *arguments, environ=self.environ, timeout_seconds=300)

    def healthy(self, service: str) -> int:
        lines = self("ps", "--format", "{{.Health}}", service).splitlines()
        return lines.count("healthy")


@pytest.fixture
def compose(image: str) -> Iterator[Compose]:
    compose = Compose(image)
    yield compose
    compose("--profile", "monitoring", "down", "--volumes", "--timeout", "40")


def test_two_relays_become_four_and_two_and_all_orders_arrive(compose: Compose) -> None:
    compose("up", "--detach", "--wait", "--no-build")
    assert compose.healthy("relay") == 2
    compose("up", "--detach", "--wait", "--no-build", "--scale", "relay=4")
    assert compose.healthy("relay") == 4
    for number in range(1, 5):
        sent = ["exec", "--index", str(number), "relay", "python3", "-c", SENT]
        eventually(lambda sent=sent: float(compose(*sent)) > 0, 60, f"relay {number} sends", every_seconds=0.5)
    compose("up", "--detach", "--wait", "--no-build", "--scale", "relay=2")
    compose("stop", "customers")
    report = json.loads(compose("logs", "--no-log-prefix", "customers").splitlines()[-1])
    assert report["placed"] > 0
    assert report == report | {"received": report["placed"], "on_the_way": 0, "duplicates": 0}


#: Run in a relay's container: how many signals it has sent.
SENT = (
    "import re, urllib.request as r; text = r.urlopen('http://127.0.0.1:9109/metrics').read().decode(); "
    "print(re.search(r'^signalbus_signals_sent_total.* (.*)$', text, re.MULTILINE)[1])"
)
