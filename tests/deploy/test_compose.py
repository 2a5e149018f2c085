"""docker-compose.yml: valid, safe to scale, and without a secret in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay import __version__
from relay.config.options import OPTIONS

from .tools import ROOT, compose_program, output_of

SCALED = "relay"


@cache
def project() -> dict[str, Any]:
    """The project as Docker Compose understands it, with all profiles."""
    command = [compose_program(), "--profile", "monitoring", "config", "--format", "json"]
    result: dict[str, Any] = json.loads(output_of(*command))
    return result


def services() -> dict[str, Any]:
    return dict(project()["services"])


def seconds(duration: str) -> float:
    minutes, number = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration).groups()  # type: ignore[union-attr]
    return int(minutes or 0) * 60 + int(number or 0)


def test_old_programs_read_the_file_as_well() -> None:
    settings = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert {name for name in settings if not name.startswith("x-")} == {"services", "secrets", "volumes"}


def test_two_relays_run_and_more_can() -> None:
    relay = services()[SCALED]
    assert relay["deploy"]["replicas"] == 2
    assert "ports" not in relay
    assert "container_name" not in relay


def test_a_relay_that_is_not_scaled_shows_its_page_on_this_machine() -> None:
    page, relay = services()["page"], services()[SCALED]
    assert page["deploy"]["replicas"] == 1
    assert [(each["host_ip"], each["published"], each["target"]) for each in page["ports"]] == [
        ("127.0.0.1", "9109", 9109)
    ]
    assert page["networks"]["default"]["aliases"] == [SCALED]
    differ = {name for name in page.keys() | relay.keys() if page.get(name) != relay.get(name)}
    assert differ == {"deploy", "networks", "ports"}


def test_ports_of_the_host_are_bound_to_this_machine_only() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port["host_ip"] == "127.0.0.1" for port in ports)


def test_whoever_needs_a_service_waits_until_it_is_healthy() -> None:
    needs = {name: service.get("depends_on", {}) for name, service in services().items()}
    assert all(needed["condition"] == "service_healthy" for each in needs.values() for needed in each.values())
    assert set(needs[SCALED]) == {"shop", "postgres", "rabbitmq"}
    of_the_image = {SCALED, "page"}
    for needed in {name for each in needs.values() for name in each} - of_the_image:
        assert services()[needed]["healthcheck"]["test"], needed


def test_every_image_has_a_fixed_tag() -> None:
    for name, service in services().items():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"v?\d+\.\d+", tag), name
    assert services()[SCALED]["image"] == f"signalbus-relay:{__version__}"
    assert services()[SCALED]["build"]["args"]["VERSION"] == __version__


def test_secrets_come_through_files_and_stand_nowhere_else() -> None:
    values = {
        word
        for secret in project()["secrets"].values()
        for word in re.findall(r"shop-demo\S*", Path(secret["file"]).read_text())
    }
    assert values
    text = (ROOT / "docker-compose.yml").read_text()
    assert not [value for value in values if value in text]
    for service in services().values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("URL|PASSWORD|PASS|TOKEN", name) or value.startswith("/run/secrets/"), name


def test_own_secrets_are_taken_from_a_directory_of_the_users(tmp_path: Path) -> None:
    command = [compose_program(), "config", "--format", "json"]
    own = json.loads(output_of(*command, environ={"SIGNALBUS_SECRETS": str(tmp_path)}))
    assert {Path(secret["file"]).parent for secret in own["secrets"].values()} == {tmp_path}


def test_every_file_that_is_mounted_is_there() -> None:
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), f"{name}: {volume['source']}"
                assert volume["read_only"], f"{name}: {volume['source']}"


@pytest.mark.parametrize("name", ["relay", "page", "shop", "customers"])
def test_our_containers_can_do_nothing_that_they_need_not(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_relay_has_more_time_to_stop_than_its_bursts_have_to_end() -> None:
    drain = next(option.default for option in OPTIONS if option.name == "drain-timeout")
    assert seconds(services()[SCALED]["stop_grace_period"]) >= drain + 5


def test_every_relay_variable_is_an_option() -> None:
    known = {option.variable + end for option in OPTIONS for end in ("", "_FILE") if not end or option.is_secret}
    used = {name for service in services().values() for name in service.get("environment", {})}
    assert {name for name in used if name.startswith("SIGNALBUS_RELAY_")} <= known


def test_prometheus_finds_replicas_by_name_and_port_of_relay() -> None:
    settings = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    (job,) = settings["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == [SCALED]
    assert [str(found["port"])] == services()[SCALED]["expose"]
    assert found["type"] == "A"


# The rolling update

#: A stand-in for docker: knows containers by number, and writes down what it was told.
DOCKER = """\
#!/bin/sh
echo "$*" >> calls
case "$*" in
    "compose ps --quiet relay") cat relays ;;
    "compose up"*) [ ! -e broken ] || exit 1; echo "new$(wc -l < relays)" >> relays ;;
    "stop "*) for last; do :; done; grep -v "^$last$" relays > rest; mv rest relays ;;
esac
"""


def roll(tmp_path: Path) -> tuple[int, list[str], list[str]]:
    """Its exit code, what docker was told, and which relays are there afterwards."""
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "relays").write_text("old1\nold2\n")
    done = subprocess.run(
        ["sh", ROOT / "deploy/compose/roll.sh"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    return done.returncode, calls, (tmp_path / "relays").read_text().split()


def test_a_new_relay_is_healthy_before_an_old_one_is_stopped(tmp_path: Path) -> None:
    code, calls, after = roll(tmp_path)
    assert code == 0
    one = "compose up --detach --wait --no-deps --no-recreate --no-build --scale relay=3 relay"
    steps = [call for call in calls if not call.startswith("compose ps")]
    assert steps == [one, "stop --time 40 old1", "rm old1", one, "stop --time 40 old2", "rm old2"]
    assert not [name for name in after if name.startswith("old")]


def test_no_relay_is_stopped_when_the_new_one_is_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    code, calls, after = roll(tmp_path)
    assert code == 1
    assert not [call for call in calls if call.startswith(("stop", "rm"))]
    assert after == ["old1", "old2"]
