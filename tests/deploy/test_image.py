"""The Dockerfile, and the health check of its containers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.config.options import OPTIONS
from tests.support.broker import Broker
from tests.support.processes import RelayProcess
from tests.support.shop import Shop
from tests.support.waiting import eventually

from .tools import ROOT, output_of, program

HEALTHCHECK = ROOT / "deploy/image/healthcheck.py"


def instructions() -> list[str]:
    """The Dockerfile's instructions, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]


def final_stage() -> list[str]:
    lines = instructions()
    last = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return lines[last:]


def test_the_linter_of_dockerfiles_is_content() -> None:
    assert output_of(program("hadolint"), "Dockerfile") == ""


def test_image_is_built_without_build_front_end_from_registry() -> None:
    assert "syntax=" not in (ROOT / "Dockerfile").read_text()


def test_the_base_image_has_a_fixed_tag_and_can_be_given() -> None:
    (base,) = [line for line in instructions() if line.startswith("ARG BASE_IMAGE")]
    assert re.fullmatch(r"ARG BASE_IMAGE=python:3\.\d+-slim", base)
    assert {line.split()[1] for line in instructions() if line.startswith("FROM ")} <= {
        "${BASE_IMAGE}",
        "build",
        "scratch",
    }


def test_final_stage_runs_command_directly_as_numbered_user() -> None:
    lines = final_stage()
    assert 'ENTRYPOINT ["signalbus-relay"]' in lines
    assert 'CMD ["run"]' in lines
    assert "USER 10001:10001" in lines
    assert not [line for line in lines if line.startswith("RUN ")]


def test_what_is_copied_into_image_is_let_in_and_nothing_else() -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in instructions()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert {source if source in let_in else str(Path(source).parent) for source in copied} == let_in
    assert all((ROOT / source).exists() for source in copied)


def test_every_relay_variable_of_the_image_is_an_option() -> None:
    known = {option.variable for option in OPTIONS}
    used = set(re.findall(r"SIGNALBUS_RELAY_[A-Z_]+", "\n".join(final_stage())))
    assert used
    assert used <= known


def test_every_relay_variable_of_the_page_is_an_option() -> None:
    known = {option.variable + end for option in OPTIONS for end in ("", "_FILE") if not end or option.is_secret}
    used = set(re.findall(r"SIGNALBUS_RELAY_[A-Z_]+", (ROOT / "docs/how-to/deploy.md").read_text()))
    assert "SIGNALBUS_RELAY_TABLE" in used
    assert used <= known


# The health check


@pytest.fixture
def relay(tmp_path: Path, database_url: str, broker: Broker) -> Iterator[RelayProcess]:
    shop = Shop(tmp_path, database_url, broker)
    yield shop.relay()
    shop.close()


def health(address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", HEALTHCHECK],
        env={"SIGNALBUS_RELAY_HTTP": address},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_relay_with_progress_is_healthy_and_one_gone_is_not(relay: RelayProcess) -> None:
    port = relay.port
    eventually(lambda: health(f"0.0.0.0:{port}").returncode == 0, 20)
    relay.kill()
    after = health(f"0.0.0.0:{port}")
    assert after.returncode == 1
    assert "No answer" in after.stdout


def test_a_relay_whose_threads_hang_is_not_healthy(tmp_path: Path, database_url: str, broker: Broker) -> None:
    shop = Shop(tmp_path, database_url, broker)
    try:
        shop.write(1, 30)
        with shop.paused("confirmed") as wait_for_relay:
            relay = shop.relay("--stall-after", "1")
            wait_for_relay()
            eventually(lambda: health(f"127.0.0.1:{relay.port}").returncode == 1, 20)
            assert "worker-" in health(f"127.0.0.1:{relay.port}").stdout
    finally:
        shop.close()


def test_a_relay_that_serves_no_http_is_left_alone() -> None:
    assert health("off").returncode == 0
