"""Several hosts in the URL of a database, in libpq's form and in SQLAlchemy's."""

from __future__ import annotations

import psycopg2.extensions
import pytest
from sqlalchemy.engine import make_url

from relay.application.databases import addresses_of
from relay.config.values import database_url
from relay.servers.database_url import place_text


def parameters(url: str) -> dict[str, str]:
    read = make_url(database_url(url))
    return {name: str(value) for name, value in read.get_dialect()().create_connect_args(read)[1].items()}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%40s%2Cs@h1:5432,h2:5433/db?target_session_attrs=any&sslmode=require",
        "postgres://u:p%40s%2Cs@h1,h2/db",
        "postgresql://[::1]:5432,h2/db?connect_timeout=3",
        "postgresql://%2Fvar%2Frun,h2:1/",
        "postgresql://u@h1,h2",
    ],
)
def test_hosts_in_libpqs_form_are_read_as_libpq_does(url: str) -> None:
    libpq = psycopg2.extensions.parse_dsn(url.replace("postgres://", "postgresql://"))
    ours = parameters(url)
    ports = ours.get("port", ",").split(",")
    assert ours.get("host", "").split(",") == libpq["host"].split(",")
    assert ports == libpq.get("port", ",").split(",")
    others = {"host", "port"}
    assert {k: v for k, v in ours.items() if k not in others} == {k: v for k, v in libpq.items() if k not in others}


@pytest.mark.parametrize(
    ("url", "place", "addresses"),
    [
        ("postgresql://u:geheim@h1:1,h2:2/db", "h1:1,h2:2/db", (("h1", 1), ("h2", 2))),
        ("postgresql://u:geheim@h1,h2/db", "h1,h2/db", (("h1", 5432), ("h2", 5432))),
        ("postgresql+psycopg2://u:geheim@/db?host=h1:1&host=h2", "h1:1,h2/db", (("h1", 1), ("h2", 5432))),
        ("postgresql+psycopg2://u:geheim@/db?host=h1,h2&port=7", "h1:7,h2:7/db", ()),
        ("postgresql://u:geheim@h1:1/db", "h1:1/db", (("h1", 1),)),
        ("postgresql:///db", "db", ()),
        ("postgresql:///db?host=/run", "/run/db", (("/run", 5432),)),
    ],
)
def test_hosts_are_shown_and_tried(url: str, place: str, addresses: tuple[tuple[str, int], ...]) -> None:
    if "port=7" in url:
        # SQLAlchemy takes no single port for several hosts.
        with pytest.raises(ValueError, match="ports are numbers"):
            database_url(url)
        return
    assert place_text(make_url(database_url(url))) == place
    assert addresses_of(parameters(url)) == addresses


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://u:geheim@h1,,h2/db", "host 2 is empty"),
        ("postgresql://u:geheim@h1:1,h2:x/db", "host 2 is empty, or its port is no number"),
        ("postgresql://u:geheim@h1,h2,/db", "host 3 is empty"),
        ("postgresql://u:ge@heim@h1,h2/db", "@ as %40"),
        ("postgresql://h1,h2:1", None),
        ("postgresql://u:gehe,im@h1/db", None),
    ],
)
def test_a_host_that_cannot_be_read_is_refused_and_no_password_shown(url: str, problem: str | None) -> None:
    if problem is None:
        assert database_url(url)
        return
    with pytest.raises(ValueError, match=problem) as raised:
        database_url(url)
    assert "heim" not in str(raised.value)
