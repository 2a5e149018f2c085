"""What the status page looks like in a real browser: for all, on all screens, by day and by night."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.replicas.thread import Replicas
from relay.telemetry.incidents import single_signals
from relay.telemetry.status import Status
from relay.web.failed_cache import MOST_SHOWN
from relay.web.server import HttpServer
from signalbus_core import Outcome, OutcomeKind
from tests.integration.worker.test_parked_signals import Outbox, failed
from tests.support.browser import Browser, browser
from tests.support.clock import Clock
from tests.support.operated_site import BROKER, Operated
from tests.support.recorder import ENDED, burst
from tests.support.servers import Postgres
from tests.support.waiting import eventually

SCREENS = {"telephone": (360, 780), "tablet": (970, 900), "desk": (1180, 900)}

MODELS = ("OrderPlaced", "PaymentReceived", "ShipmentDispatched", "Order")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture(scope="module")
def outbox(postgres: Postgres) -> Iterator[Outbox]:
    outbox = Outbox(postgres.create_database())
    yield outbox
    outbox.engine.dispose()


@pytest.fixture
def operated(outbox: Outbox, tmp_path: Path) -> Iterator[Operated]:
    """A relay that has been sending for ten minutes."""
    clock = Clock()
    status = Status(MODELS, clock)
    for second in range(601):
        clock.now = second
        status.burst_ended(
            "OrderPlaced", burst(round(40 + 25 * math.sin(second / 60) + 8 * math.sin(second / 7.3))), ENDED
        )
        status.burst_ended(
            "PaymentReceived", burst(max(0, round(12 * math.sin(second / 95) + 6 * math.sin(second / 11) + 3))), ENDED
        )
        status.burst_ended("ShipmentDispatched", burst(300 if 200 < second < 260 else 0), ENDED)
        status.burst_ended("Order", burst(second // 120), ENDED)
    for name in MODELS:
        status.backlog_measured(name, 0, 0.0)
        status.failed_counted(name, 0, 0)
    status.backlog_measured("OrderPlaced", 37, 0.4)
    status.worker_changed("worker-1", "sending", "OrderPlaced", 50)
    status.worker_changed("worker-2", "idle")
    operated = Operated(outbox, tmp_path, status=status)
    beside = replace(operated.replicas.own, status=Status(MODELS, clock), id="beside")
    beside.status.worker_changed("worker-1", "idle")
    for replicas in (Replicas(beside, operated.place), operated.replicas):
        replicas.run_once()
    yield operated
    with outbox.engine.begin() as connection:
        connection.exec_driver_sql('TRUNCATE "order", signalbus_parked, signalbus_relays')


@pytest.fixture
def url(chromium: Browser, operated: Operated) -> Iterator[str]:
    server = HttpServer(operated.site, "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    chromium.leave()
    server.close()


def make_exceptions(operated: Operated) -> None:
    poison = Outcome(OutcomeKind.INVALID, "ValueError: amount of *** has no currency", cause="invalid")
    refused = Outcome(OutcomeKind.REFUSED, "no queue is bound for it (312 NO_ROUTE)", cause="returned")
    operated.outbox.write(1042, 1077, 1081)
    retry_store = operated.outbox.retry_store(park_after=1, wait=30)
    retry_store.put([failed(1042, poison), failed(1077, poison), failed(1081, refused)])
    operated.status.failed_counted("Order", 1, 2)
    operated.status.backlog_measured("Order", 3, 841.0)
    operated.status.backlog_measured("PaymentReceived", 10_000, 3720.0)
    operated.status.model_paused("PaymentReceived", "the consumer is being moved")
    trouble = "3 failed and wait for their next try; first: 1042, ValueError: amount of *** has no currency"
    operated.incidents.raised(single_signals("Order"), "signals_set_aside", trouble, signal="Order")


def stop_the_flow(operated: Operated) -> None:
    operated.health.broker_changed("worker-1", "down", "[Errno 111] Connection refused", BROKER)
    for name in ("worker-1", "worker-2"):
        operated.status.worker_changed(name, "waiting for the broker")


def assert_looks_well(chromium: Browser, name: str) -> None:
    for scheme in ("light", "dark"):
        chromium.prefer(scheme)
        for screen, (width, height) in SCREENS.items():
            chromium.resize(width, height)
            assert chromium.audit() == [], f"{name}, {scheme}, {screen}"
            chromium.picture(f"{name}-{scheme}-{screen}", width)
    assert chromium.complaints() == []


def test_the_page_of_a_relay_that_flows(chromium: Browser, operated: Operated, url: str) -> None:
    chromium.open(url)
    assert chromium.text("h1") == "Signals flow."
    assert [row.text.split("\n")[0] for row in chromium.all(".models tbody th")] == list(MODELS)
    assert_looks_well(chromium, "flowing")


def test_the_page_of_a_relay_with_exceptions(chromium: Browser, operated: Operated, url: str) -> None:
    make_exceptions(operated)
    chromium.open(url)
    assert chromium.text("h1") == "Signals flow, with exceptions."
    assert "ValueError: amount of *** has no currency" in chromium.text(".failed")
    assert "10,000+" in chromium.text(".models")
    assert_looks_well(chromium, "exceptions")
    chromium.prefer("light")
    # What the page asks for itself gets no answer any more, and changes nothing back.
    chromium.run("window.fetch = () => new Promise(() => {})")
    chromium.run("document.querySelector('.columns .place').textContent = 'db.shop.internal:5432/shop'")
    for selector, text in (("name", "`shop-relay-${at + 1}`"), ("place", "one.textContent.replace(/^.*, /, '')")):
        found = f"document.querySelectorAll('.relays tr:not(.sum) .{selector}')"
        chromium.run(f"{found}.forEach((one, at) => {{ one.textContent = {text} }})")
    chromium.picture("status-page", 1000)


def test_the_pages_of_many_signals(chromium: Browser, operated: Operated, url: str) -> None:
    operated.park(*range(1, MOST_SHOWN + 3))
    chromium.resize(*SCREENS["desk"])
    chromium.open(url)
    assert len(chromium.all(".failed tbody tr")) == 1
    assert_looks_well(chromium, "groups")
    assert chromium.run("return document.body.scrollHeight") < 2000
    [show] = [link for link in chromium.all(".groups a") if link.text.startswith("Show")]
    show.click()
    eventually(lambda: len(chromium.all(".failed tbody tr")) == MOST_SHOWN, 30, "the signals of the group are shown")
    chromium.click("Next")
    eventually(lambda: len(chromium.all(".failed tbody tr")) == 2, 30, "the second page is shown")
    operated.status.model_paused("Order", "moving")
    eventually(lambda: "Order is paused." in chromium.text("#main"), 30, "the page has followed")
    assert len(chromium.all(".failed tbody tr")) == 2
    assert_looks_well(chromium, "pages")


def test_the_page_of_a_relay_that_stands_still(chromium: Browser, operated: Operated, url: str) -> None:
    stop_the_flow(operated)
    chromium.open(url)
    assert chromium.text("h1").startswith("Signals cannot flow:\nthe broker is away since")
    assert {one.text for one in chromium.all(".models .state")} == {"Blocked"}
    assert_looks_well(chromium, "stopped")


@pytest.mark.parametrize(
    "path", ["discard?model=Order&key=1042", "discard-group?model=Order&group=1f&number=50", "pause?model=Order"]
)
def test_the_pages_that_ask_first(chromium: Browser, url: str, path: str) -> None:
    chromium.open(f"{url}{path}")
    assert chromium.text("h1").endswith("?")
    assert_looks_well(chromium, path.partition("?")[0])


def test_day_and_night_differ_and_the_keyboard_shows_where_it_is(chromium: Browser, url: str) -> None:
    chromium.open(url)
    grounds = set()
    for scheme in ("light", "dark"):
        chromium.prefer(scheme)
        grounds.add(chromium.run("return getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
    chromium.type("body", "\ue004")
    assert chromium.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert chromium.run("return document.activeElement.tagName") == "A"


def test_what_changes_is_shown_and_the_rest_is_left_alone(chromium: Browser, operated: Operated, url: str) -> None:
    chromium.resize(*SCREENS["telephone"])
    chromium.open(url)
    chromium.asked_for()
    chromium.run(
        "window.unchanged = document.querySelector('.models tbody tr');"
        "document.querySelector('footer a[href=livez]').focus(); window.scrollTo(0, 300);"
    )
    make_exceptions(operated)
    eventually(lambda: chromium.text("h1") == "Signals flow, with exceptions.", 30, "the verdict changes")
    stop_the_flow(operated)
    eventually(lambda: "the broker is away" in chromium.text("h1"), 30, "the verdict changes again")
    assert len(chromium.all(".failed tbody tr")) == 2
    assert chromium.run("return document.activeElement.textContent") == "livez"
    assert chromium.run("return window.unchanged.isConnected && window.scrollY > 100")
    assert "worker-1\nwaiting for the broker" in chromium.text("#main")
    assert {asked.startswith(url) for asked in chromium.asked_for()} == {True}
    assert chromium.complaints() == []


def test_a_page_whose_relay_is_gone_says_so(chromium: Browser, operated: Operated) -> None:
    server = HttpServer(operated.site, "127.0.0.1", 0)
    server.start()
    chromium.open(f"http://127.0.0.1:{server.port}/")
    server.close()
    eventually(lambda: "does not answer since" in chromium.text("#lost"), 30, "the loss is shown")
    assert chromium.audit() == []
    assert chromium.text("h1") == "Signals flow."
