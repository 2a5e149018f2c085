"""The status page of a real relay, in a real browser: it tells what happens, and lets the operator act."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from signalbus_core import parked_table_sql, paused_table_sql, relays_table_sql
from tests.acceptance.commands.test_parked import POISON, change_sender
from tests.support.browser import Browser, browser
from tests.support.processes import RelayProcess
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop
    from tests.support.proxy import FaultProxy

TOKEN = "a-token-of-operators-0123456789"


@pytest.fixture(scope="module")
def one_browser() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture
def chromium(one_browser: Browser) -> Browser:
    """A browser with no page of another test, which may miss its relay."""
    one_browser.open("about:blank")
    one_browser.leave()
    one_browser.asked_for()
    return one_browser


@pytest.fixture
def pausable(shop: Shop) -> Shop:
    with shop.engine.begin() as connection:
        connection.exec_driver_sql(parked_table_sql() + paused_table_sql())
    return shop


def start(shop: Shop, *arguments: str) -> tuple[RelayProcess, str]:
    relay = shop.relay("--discard-record", "discarded.jsonl", *arguments, SIGNALBUS_RELAY_OPERATOR_TOKEN=TOKEN)
    relay.wait_ready()
    return relay, f"http://127.0.0.1:{relay.port}/"


def shows(page: Browser, text: str, selector: str = "#main") -> None:
    try:
        eventually(lambda: text in page.text(selector), 40, every_seconds=0.2)
    except AssertionError:
        raise AssertionError(f"{text!r} is not shown in {page.text()!r}") from None


def test_page_shows_flow_and_since_when_broker_is_away(
    chromium: Browser, pausable: Shop, broker_proxy: FaultProxy
) -> None:
    relay, url = start(pausable)
    chromium.open(url)
    assert chromium.text("h1") == "Signals flow."
    pausable.write(1, 200)
    pausable.wait_until_sent()
    shows(chromium, "Last sent at")
    chromium.run("window.sameDocument = true")
    broker_proxy.refuse()
    shows(chromium, "the broker is away since", "h1")
    shows(chromium, "waiting for the broker")
    broker_proxy.forward()
    eventually(lambda: chromium.text("h1") == "Signals flow.", 60, "the verdict is good again", every_seconds=0.2)
    assert chromium.run("return window.sameDocument")
    assert {asked.startswith(url) for asked in chromium.asked_for()} == {True}
    assert chromium.complaints() == []
    assert relay.is_running


def test_operator_sees_why_signals_are_parked_and_decides(chromium: Browser, pausable: Shop) -> None:
    good = (pausable.directory / "shop.py").read_text()
    change_sender(pausable, "    def signalbus_message", "    @classmethod", POISON)
    pausable.execute("""INSERT INTO "order" (routing_key, body) VALUES ('poison', 'card 4711'), ('poison', '4712')""")
    relay, url = start(pausable, "--park-after", "1")
    chromium.open(url)
    shows(chromium, "Order: 2 signals are parked, waiting for a person.")
    shows(chromium, "ValueError: cannot read", ".failed")
    assert "4711" not in chromium.run("return document.documentElement.outerHTML")

    [show] = [link for link in chromium.all(".groups a") if link.text.startswith("Show")]
    show.click()
    shows(chromium, "Those of one group.")
    chromium.click("Discard Order 1")
    assert "It will never be sent" in chromium.text()
    chromium.type("#token", "not the token")
    chromium.click("Discard for good")
    shows(chromium, "missing or wrong", "[role=alert]")
    assert pausable.left() == 2
    chromium.type("#token", TOKEN)
    chromium.click("Discard for good")
    shows(chromium, "is discarded", "[role=status]")
    assert chromium.text("h1") == "Discarded"
    assert pausable.left() == 1
    assert json.loads((pausable.directory / "discarded.jsonl").read_text())["row"]["body"] == "card 4711"
    assert relay.wait_for_log("signal_discarded")["key"] == "1"
    assert "4711" not in relay.output
    # The refused token is answered with 401, which the browser notes.
    assert [line for line in chromium.complaints() if "401" not in line] == []

    relay.terminate()
    assert relay.wait() == 0
    (pausable.directory / "shop.py").write_text(good)
    pausable.broker.bind(pausable.queue, pausable.environ["TEST_EXCHANGE"], "poison")
    relay, url = start(pausable)
    chromium.open(url)
    shows(chromium, "Order: 1 signal is parked, waiting for a person.")
    chromium.click("Retry Order 2")
    chromium.type("#token", TOKEN)
    chromium.click("Try again")
    shows(chromium, "will be tried again", "[role=status]")
    pausable.wait_until_sent()
    chromium.click("Back to the status")
    shows(chromium, "No signal has failed.")


def test_a_model_is_paused_and_resumed_without_javascript(pausable: Shop) -> None:
    _, url = start(pausable)
    with browser(scripts=False) as plain:
        plain.open(url)
        plain.click("Pause Order")
        plain.type("#reason", "<the queue> is being moved")
        plain.type("#token", TOKEN)
        plain.click("Pause")
        shows(plain, "The model is paused.", "[role=status]")
        plain.click("Back to the status")
        # The page comes anew by itself.
        shows(plain, "Order is paused.")
        shows(plain, "<the queue> is being moved")
        pausable.write(1, 3)
        shows(plain, "Order\nPaused\n")
        plain.click("Resume Order")
        plain.type("#token", TOKEN)
        plain.click("Resume")
        shows(plain, "The model flows again.", "[role=status]")
        pausable.wait_until_sent()
        plain.open(url)
        eventually(lambda: plain.text("h1") == "Signals flow.", 40, "the page comes anew", every_seconds=0.2)
        assert plain.complaints() == []


def test_status_tells_what_worker_sends_while_it_hangs(pausable: Shop) -> None:
    pausable.write(1, 120)
    with pausable.paused("confirmed") as wait_for_relay:
        relay, _ = start(pausable, "--workers", "1")
        wait_for_relay()
        [worker] = json.loads(relay.get("/api/status")[1])["workers"]
        assert (worker["name"], worker["doing"], worker["model"]) == ("worker-1", "sending", "Order")
        assert worker["signals"] in (1, 50)
        assert "sending" in relay.get("/")[1]
    pausable.wait_until_sent()
    eventually(lambda: json.loads(relay.get("/api/status")[1])["models"][1]["sent"] == 120, 10, "all are counted")


def test_one_page_shows_all_relays_and_their_sum(chromium: Browser, shop: Shop) -> None:
    shop.execute(relays_table_sql())
    first, url = start(shop)
    second, _ = start(shop, "--workers", "3")
    chromium.open(url)
    shows(chromium, "All 2", ".relays")
    shows(chromium, "5", ".relays .sum [data-label=Workers]")
    assert len(chromium.all(".relays tbody th")) == 3
    for relay in (first, second):
        assert len(json.loads(relay.get("/api/status")[1])["replicas"]) == 2
    second.terminate()
    assert second.wait() == 0
    eventually(lambda: len(chromium.all(".relays tbody th")) == 1, 20, "the relay that ended is gone")
    assert "this relay only" not in chromium.text("#main")
    assert chromium.complaints() == []


def test_signals_are_sent_while_the_relays_cannot_know_each_other(chromium: Browser, shop: Shop) -> None:
    shop.execute(relays_table_sql())
    with shop.engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE signalbus_relays")
        relay, url = start(shop)
        shop.write(1, 100)
        shop.wait_until_sent()
        chromium.open(url)
        shows(chromium, "This page shows this relay only: ")
        shows(chromium, "canceling statement due to lock timeout")
        relay.terminate()
        assert relay.wait() == 0
