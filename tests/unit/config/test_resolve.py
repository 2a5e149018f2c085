"""Where the relay's configuration comes from, and how wrong values are reported."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from relay.config.options import OPTIONS
from relay.config.resolve import ConfigError, RelayConfig, resolve
from relay.config.values import HttpAddress

APP = {"app": "shop:create_app"}


def problems(given: dict[str, Any], environ: dict[str, str] | None = None, app_config: Any = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        resolve(APP | given, environ or {}, app_config)
    return list(raised.value.problems)


def test_the_defaults_are_what_the_help_promises() -> None:
    config = resolve(APP, {})
    assert (config.workers, config.poll_interval_seconds, config.drain_timeout_seconds) == (2, 1.0, 30.0)
    assert config.http == HttpAddress("127.0.0.1", 9109)
    assert (config.log_format, config.log_level, config.until_empty) == ("text", "INFO", False)


def test_every_option_fills_field_and_every_field_has_option() -> None:
    assert {option.field for option in OPTIONS} == set(RelayConfig.__dataclass_fields__)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        resolve(APP, {}).workers = 5  # type: ignore[misc]


def test_command_line_wins_over_environment_and_that_over_app() -> None:
    environ = {"SIGNALBUS_RELAY_WORKERS": "3"}
    app_config = {"SIGNALBUS_RELAY_WORKERS": 4, "SIGNALBUS_RELAY_POLL_INTERVAL": 0.5}
    assert resolve(APP | {"workers": "2"}, environ, app_config).workers == 2
    assert resolve(APP, environ, app_config).workers == 3
    assert resolve(APP, {}, app_config).workers == 4
    assert resolve(APP, environ, app_config).poll_interval_seconds == 0.5


def test_the_application_may_come_from_flask_app() -> None:
    assert resolve({}, {"FLASK_APP": "shop"}).app == "shop"
    assert resolve({}, {"FLASK_APP": "shop", "SIGNALBUS_RELAY_APP": "other"}).app == "other"


def test_without_an_application_the_error_shows_how_to_name_it() -> None:
    with pytest.raises(ConfigError, match="--app shop:create_app"):
        resolve({}, {})


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://u:p@h/\n")
    assert resolve(APP, {"SIGNALBUS_RELAY_AMQP_URL_FILE": str(tmp_path / "url")}).amqp_url == "amqp://u:p@h/"


def test_a_missing_secret_file_is_reported(tmp_path: Path) -> None:
    [problem] = problems({}, {"SIGNALBUS_RELAY_AMQP_URL_FILE": str(tmp_path / "none")})
    assert problem.startswith("SIGNALBUS_RELAY_AMQP_URL_FILE")


def test_a_secret_file_that_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "url").write_bytes(b"\xff\xfe")
    for path in (str(tmp_path / "url"), "a\0b"):
        [problem] = problems({}, {"SIGNALBUS_RELAY_AMQP_URL_FILE": path})
        assert problem.startswith("SIGNALBUS_RELAY_AMQP_URL_FILE")


def test_all_problems_are_reported_with_where_they_come_from() -> None:
    found = problems(
        {"workers": "0", "http": "9109"},
        {"SIGNALBUS_RELAY_POLL_INTERVAL": "often"},
        {"SIGNALBUS_RELAY_LOG_LEVEL": "LOUD"},
    )
    assert len(found) == 4
    for text in (
        "--workers",
        "--http",
        "SIGNALBUS_RELAY_POLL_INTERVAL",
        "SIGNALBUS_RELAY_LOG_LEVEL (of the application)",
    ):
        assert any(problem.startswith(text) for problem in found)


@pytest.mark.parametrize("value", ["0", "65", "two", "1.5", "", True, 2.0, None])
def test_wrong_numbers_of_workers_are_refused(value: Any) -> None:
    if value in ("", None):
        assert resolve(APP, {"SIGNALBUS_RELAY_WORKERS": value or ""}).workers == 2
    else:
        assert "from 1 to 64" in problems({}, {}, {"SIGNALBUS_RELAY_WORKERS": value})[0]


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e9", "soon", True])
def test_wrong_seconds_are_refused(value: Any) -> None:
    assert "seconds from" in problems({}, {}, {"SIGNALBUS_RELAY_DRAIN_TIMEOUT": value})[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:80", HttpAddress("0.0.0.0", 80)),
        ("[::1]:0", HttpAddress("::1", 0)),
        ("localhost:9109", HttpAddress("localhost", 9109)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_http_addresses(text: str, expected: HttpAddress | None) -> None:
    assert resolve(APP | {"http": text}, {}).http == expected


@pytest.mark.parametrize("text", ["9109", ":9109", "host:", "host:port", "host:65536", "host:-1", "host:٣"])
def test_wrong_http_addresses_are_refused(text: str) -> None:
    assert "HOST:PORT" in problems({"http": text})[0]


def test_names_are_given_again_or_separated_by_commas() -> None:
    assert resolve(APP | {"signals": ("A", "B")}, {}).signals == ("A", "B")
    assert resolve(APP, {"SIGNALBUS_RELAY_SIGNALS": "A, B"}).signals == ("A", "B")


@pytest.mark.parametrize(("text", "expected"), [("yes", True), ("1", True), ("off", False), ("false", False)])
def test_flags_in_the_environment(text: str, expected: bool) -> None:
    assert resolve(APP, {"SIGNALBUS_RELAY_UNTIL_EMPTY": text}).until_empty is expected


def test_a_wrong_flag_is_refused() -> None:
    assert "yes or no" in problems({}, {"SIGNALBUS_RELAY_UNTIL_EMPTY": "maybe"})[0]


def test_a_secret_is_not_shown_when_it_is_wrong() -> None:
    assert "secret" not in problems({}, {}, {"SIGNALBUS_RELAY_AMQP_URL": ["amqp://u:secret@h/"]})[0]


@pytest.mark.parametrize("token", ["short", "0123456789abcde", "with spaces 0123456789", "l\u00e4nger-als-sechzehn"])
def test_a_token_that_could_be_guessed_or_mistyped_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve({"app": "shop"}, {"SIGNALBUS_RELAY_OPERATOR_TOKEN": token})
    [problem] = refused.value.problems
    assert problem.startswith("SIGNALBUS_RELAY_OPERATOR_TOKEN: at least 16")
    assert token not in problem


def test_the_token_may_come_from_a_file() -> None:
    environ = {"SIGNALBUS_RELAY_OPERATOR_TOKEN_FILE": "/run/secrets/token"}
    config = resolve({"app": "shop"}, environ, read_file=lambda path: "0123456789abcdef\n")
    assert config.operator_token == "0123456789abcdef"
    assert resolve({"app": "shop"}, {}).operator_token is None
