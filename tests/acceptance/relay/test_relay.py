"""The real command against real servers: what it sends, how it stops, what it survives."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from tests.support.proxy import FaultProxy
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.acceptance.conftest import Shop


def test_signals_are_sent_as_they_are_written(shop: Shop) -> None:
    relay = shop.relay()
    relay.wait_ready()
    for number in (1, 2, 3):
        shop.write(number, number)
        shop.wait_until_sent()
    assert sorted(shop.received()) == [1, 2, 3]


def test_two_relays_on_one_table_send_every_signal_once(shop: Shop) -> None:
    relays = [shop.relay("--log-level", "DEBUG"), shop.relay("--log-level", "DEBUG")]
    for relay in relays:
        relay.wait_ready()
    shop.write(1, 10_000)
    shop.wait_until_sent(90)
    assert sorted(shop.received()) == list(range(1, 10_001))
    assert all(relay.logs("burst_sent") for relay in relays)


def test_kill_before_commit_repeats_burst_and_loses_nothing(shop: Shop) -> None:
    shop.write(1, 30)
    with shop.paused("confirmed") as wait_for_relay:
        relay = shop.relay()
        wait_for_relay()
        relay.kill()
    assert shop.left() == 30
    shop.relay()
    shop.wait_until_sent()
    assert sorted(shop.received()) == sorted([*range(1, 31), *range(1, 31)])


def test_stop_request_lets_burst_end_and_starts_no_other(shop: Shop) -> None:
    shop.write(1, 500)
    with shop.paused("confirmed") as wait_for_relay:
        relay = shop.relay("--workers", "1")
        wait_for_relay()
        relay.terminate()
        relay.wait_for_log("stopping")
        assert relay.readiness()["state"] == "draining"
        assert relay.get("/readyz")[0] == 503
    assert relay.wait() == 0
    assert shop.left() == 450
    assert sorted(shop.received()) == list(range(1, 51))


@pytest.mark.parametrize("how", ["terminate", "interrupt"])
def test_an_idle_relay_stops_at_once_with_exit_code_0(shop: Shop, how: str) -> None:
    relay = shop.relay()
    relay.wait_ready()
    getattr(relay, how)()
    assert relay.wait(5) == 0
    assert relay.logs("stopped")[0]["exit_code"] == 0


def test_a_second_stop_request_ends_a_relay_that_hangs(shop: Shop) -> None:
    shop.write(1, 30)
    with shop.paused("confirmed") as wait_for_relay:
        relay = shop.relay()
        wait_for_relay()
        relay.terminate()
        relay.wait_for_log("stopping")
        relay.terminate()
        assert relay.wait(5) == 3
    assert shop.left() == 30


def test_bursts_longer_than_drain_timeout_are_cut_short(shop: Shop) -> None:
    shop.write(1, 30)
    with shop.paused("confirmed") as wait_for_relay:
        relay = shop.relay("--drain-timeout", "0.5")
        wait_for_relay()
        relay.terminate()
        assert relay.wait(10) == 3
    assert relay.logs("drain_timed_out")
    assert shop.left() == 30


def test_hanging_send_method_fails_liveness_and_names_thread(shop: Shop) -> None:
    shop.write(1, 30)
    with shop.paused("confirmed") as wait_for_relay:
        relay = shop.relay("--stall-after", "1")
        wait_for_relay()
        status = eventually(lambda: next((code for code, text in [relay.get("/livez")] if "worker-" in text), None), 20)
    assert status == 503
    eventually(lambda: relay.get("/livez")[0] == 200, 10)


#: Nothing that an application raises ends a worker, so this replaces a part of it.
ENDS_WORKERS = """
from relay.worker.worker import Worker

def end(worker, progress):
    worker._stop = threading.Event()
    worker._stop.set()
    raise ValueError

Worker._send_burst = end
"""


def test_a_dead_thread_ends_process_so_that_it_is_started_again(shop: Shop) -> None:
    with (shop.directory / "shop.py").open("a") as code:
        code.write(ENDS_WORKERS)
    relay = shop.relay("--workers", "1")
    relay.wait_ready()
    shop.write(1, 1)
    assert relay.wait(20) == 1
    assert "thread died: worker-1" in relay.logs("stopping")[0]["message"]


def test_until_empty_sends_what_is_pending_and_ends(shop: Shop) -> None:
    shop.write(1, 1000)
    relay = shop.relay("--until-empty")
    assert relay.wait(60) == 0
    assert shop.left() == 0
    assert len(shop.received()) == 1000


def test_until_empty_ends_with_1_when_something_is_unsent(shop: Shop) -> None:
    shop.write(1, 5)
    shop.write(6, 7, routing_key="unwanted")
    relay = shop.relay("--until-empty")
    assert relay.wait(60) == 1
    assert shop.left() == 2
    assert sorted(shop.received()) == [1, 2, 3, 4, 5]


def test_only_the_named_models_are_relayed(shop: Shop) -> None:
    shop.write(1, 5, "order")
    shop.write(6, 10, "invoice")
    assert shop.relay("--until-empty", "--signals", "Invoice").wait(60) == 0
    assert (shop.left("order"), shop.left("invoice")) == (5, 0)


def test_an_unroutable_signal_stays_and_holds_up_no_other(shop: Shop) -> None:
    shop.write(1, 1, routing_key="unwanted")
    shop.write(2, 200)
    relay = shop.relay()
    eventually(lambda: shop.left() == 1, 20)
    shop.write(201, 210)
    eventually(lambda: shop.left() == 1, 20)
    assert sorted(shop.received()) == list(range(2, 211))
    assert re.search(r'failures_total\{reason="returned",signal="Order"\} [1-9]', relay.get("/metrics")[1])
    assert "NO_ROUTE" in str(relay.logs("signals_set_aside"))


def test_unencodable_signal_stays_and_holds_up_no_other(shop: Shop) -> None:
    shop.write(1, 1, routing_key="k" * 256)
    shop.write(2, 100)
    relay = shop.relay()
    eventually(lambda: shop.left() == 1, 20)
    assert sorted(shop.received()) == list(range(2, 101))
    assert "routing_key" in str(relay.logs("signals_set_aside"))


def test_a_signal_flows_again_once_its_destination_is_there(shop: Shop) -> None:
    shop.write(1, 1, routing_key="later")
    relay = shop.relay()
    relay.wait_for_log("signals_set_aside")
    shop.broker.bind(shop.queue, shop.environ["TEST_EXCHANGE"], "later")
    shop.wait_until_sent()
    assert shop.received() == [1]


# Servers that are away


def test_relay_started_without_database_carries_on_later(shop: Shop, database_proxy: FaultProxy) -> None:
    shop.write(1, 10)
    database_proxy.refuse()
    relay = shop.relay()
    eventually(lambda: relay.readiness()["database"]["condition"] == "down", 10)
    assert relay.get("/readyz")[0] == 503
    assert relay.get("/livez")[0] == 200
    database_proxy.forward()
    shop.wait_until_sent()
    relay.wait_ready()
    assert sorted(shop.received()) == list(range(1, 11))


def test_relay_started_without_broker_carries_on_later(shop: Shop, broker_proxy: FaultProxy) -> None:
    shop.write(1, 10)
    broker_proxy.refuse()
    relay = shop.relay()
    eventually(lambda: relay.readiness()["broker"]["condition"] == "down", 10)
    assert relay.get("/readyz")[0] == 503
    assert shop.left() == 10
    broker_proxy.forward()
    shop.wait_until_sent(60)
    relay.wait_ready()
    assert sorted(shop.received()) == list(range(1, 11))


def test_a_silent_database_is_given_up_and_asked_again(shop: Shop, database_proxy: FaultProxy) -> None:
    shop.write(1, 10)
    database_proxy.blackhole()
    relay = shop.relay()
    eventually(lambda: relay.readiness()["database"]["condition"] == "down", 25)
    assert "timeout" in relay.readiness()["database"]["reason"]
    database_proxy.forward()
    shop.wait_until_sent(40)
    relay.wait_ready()


def test_a_database_that_goes_away_for_a_while_loses_nothing(shop: Shop, database_proxy: FaultProxy) -> None:
    relay = shop.relay()
    relay.wait_ready()
    database_proxy.refuse()
    shop.write(1, 100)
    relay.wait_for_log("database_down")
    assert relay.get("/readyz")[0] == 503
    database_proxy.forward()
    shop.wait_until_sent()
    assert sorted(shop.received()) == list(range(1, 101))
    assert len([line for line in relay.logs("database_down") if line["level"] == "WARNING"]) == 1
    assert relay.is_running


def test_a_broker_that_goes_away_for_a_while_loses_nothing(shop: Shop, broker_proxy: FaultProxy) -> None:
    relay = shop.relay()
    relay.wait_ready()
    broker_proxy.refuse()
    shop.write(1, 100)
    relay.wait_for_log("broker_down")
    eventually(lambda: relay.get("/readyz")[0] == 503, 10)
    broker_proxy.forward()
    shop.wait_until_sent(60)
    assert set(shop.received()) == set(range(1, 101))
    assert len([line for line in relay.logs("broker_down") if line["level"] == "WARNING"]) == 1
    assert relay.is_running


@pytest.mark.parametrize("user", ["guest:wrong-secret@", "nobody:wrong-secret@"])
def test_a_refused_login_is_told_and_does_not_end_the_relay(shop: Shop, user: str) -> None:
    shop.environ["TEST_AMQP_URL"] = re.sub("//.*@", f"//{user}", shop.environ["TEST_AMQP_URL"])
    relay = shop.relay()
    eventually(lambda: "login was refused" in relay.get("/readyz")[1], 10)
    assert relay.is_running
    assert "wrong-secret" not in relay.output


def test_a_refused_database_login_is_told_and_does_not_end_relay(shop: Shop) -> None:
    shop.environ["TEST_DATABASE_URL"] = re.sub("//.*@", "//nobody:wrong-secret@", shop.environ["TEST_DATABASE_URL"])
    relay = shop.relay()
    eventually(lambda: relay.readiness()["database"]["condition"] == "down", 10)
    assert "nobody" in relay.readiness()["database"]["reason"]
    assert relay.is_running
    assert "wrong-secret" not in relay.output


@pytest.mark.parametrize("scheme", ["postgres://", "postgresql://"])
def test_a_database_url_that_sqlalchemy_misreads_is_told_how_to_be_written(shop: Shop, scheme: str) -> None:
    url = shop.environ["TEST_DATABASE_URL"]
    assert url.startswith("postgresql+psycopg2://")
    if scheme == "postgresql://" and sa.__version__ < "2.1":
        assert shop.relay("--until-empty", TEST_DATABASE_URL=url.replace("+psycopg2", "")).wait(30) == 0
        return
    shop.environ["TEST_DATABASE_URL"] = scheme + url.split("://")[1]
    # As where only psycopg2 is installed.
    (shop.directory / "psycopg.py").write_text("raise ModuleNotFoundError(\"No module named 'psycopg'\")")
    assert_refused(shop, "postgresql+psycopg2://")


def test_a_missing_virtual_host_is_told_and_does_not_end_relay(shop: Shop) -> None:
    shop.environ["TEST_AMQP_URL"] = shop.environ["TEST_AMQP_URL"].rsplit("/", 1)[0] + "/no-such-vhost"
    relay = shop.relay()
    eventually(lambda: "virtual host" in relay.get("/readyz")[1], 10)
    assert relay.is_running


def test_a_read_only_database_is_told_and_nothing_is_sent(shop: Shop) -> None:
    shop.write(1, 3)
    with shop.engine.begin() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar()
        connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    relay = shop.relay()
    line = relay.wait_for_log("model_failing")
    assert "read-only" in line["message"]
    assert shop.received() == []
    assert relay.is_running


# What it shows


def test_metrics_count_what_was_sent_and_every_series_is_there_from_the_start(shop: Shop) -> None:
    relay = shop.relay()
    relay.wait_ready()
    before = relay.get("/metrics")[1]
    for name in (
        'signalbus_signals_sent_total{signal="Invoice"} 0.0',
        'signalbus_publish_failures_total{reason="nacked",signal="Order"} 0.0',
        'signalbus_wakeups_total{cause="doorbell"} 0.0',
        'signalbus_relay_state{state="running"} 1.0',
        "signalbus_broker_up 1.0",
        "signalbus_database_up 1.0",
    ):
        assert name in before
    shop.write(1, 120)
    shop.wait_until_sent()
    eventually(lambda: 'signalbus_signals_sent_total{signal="Order"} 120.0' in relay.get("/metrics")[1])
    assert set(re.findall(r"^signalbus_\w+(?:\{.*?\})?", before, re.MULTILINE)) == set(
        re.findall(r"^signalbus_\w+(?:\{.*?\})?", relay.get("/metrics")[1], re.MULTILINE)
    )


# Wrong configuration


def assert_refused(shop: Shop, *texts: str, arguments: tuple[str, ...] = (), **environ: str) -> None:
    relay = shop.relay(*arguments, **environ)
    assert relay.wait(20) == 2
    for text in texts:
        assert text in relay.output
    assert "Traceback" not in relay.output


def test_all_wrong_options_are_reported_at_once(shop: Shop) -> None:
    assert_refused(
        shop,
        "--workers",
        "--log-level",
        "SIGNALBUS_RELAY_DRAIN_TIMEOUT",
        arguments=("--workers", "0", "--log-level", "LOUD"),
        SIGNALBUS_RELAY_DRAIN_TIMEOUT="soon",
    )


def test_unknown_signal_name_is_refused_and_known_are_listed(shop: Shop) -> None:
    assert_refused(shop, "Nonsense", "Invoice, Order", arguments=("--signals", "Nonsense"))


def test_a_port_in_use_is_refused(shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(shop, f"127.0.0.1:{port}", "in use", arguments=("--http", f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import no_such_module", "no_such_module"),
        ("1/0", "ZeroDivisionError"),
        ("create_app = 5", "a Flask application or a factory is expected"),
        ("def create_app(): raise ValueError('no settings')", "ValueError: no settings"),
        ("from flask import Flask\ndef create_app(): return Flask('x')", "SignalBusMixin"),
    ],
)
def test_app_that_cannot_be_loaded_is_refused_with_reason(shop: Shop, code: str, text: str) -> None:
    (shop.directory / "shop.py").write_text(code)
    assert_refused(shop, text)


def test_a_stop_request_ends_a_relay_that_still_loads_its_application(shop: Shop) -> None:
    # As it may be with exit functions that wait, and with code that catches everything.
    (shop.directory / "shop.py").write_text(
        "import pathlib, time\n"
        "def create_app():\n"
        "    pathlib.Path('loading').touch()\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    relay = shop.relay()
    eventually((shop.directory / "loading").exists, 30, "the application is being loaded")
    relay.terminate()
    assert relay.wait() == 0
    assert relay.logs("stopped")[0]["exit_code"] == 0


def test_an_application_without_signal_models_is_refused(shop: Shop) -> None:
    source = (shop.directory / "shop.py").read_text()
    start, end = source.index("class Sent"), source.index("def pause")
    (shop.directory / "shop.py").write_text(source[:start] + source[end:])
    assert_refused(shop, "No signal model", "--import")


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DROP TABLE invoice", "does not exist"),
        ("ALTER TABLE invoice DROP CONSTRAINT invoice_pkey", "no primary key"),
        ("ALTER TABLE invoice RENAME TO i; CREATE VIEW invoice AS SELECT * FROM i", "is a view"),
    ],
)
def test_a_table_that_cannot_serve_is_refused(shop: Shop, statement: str, text: str) -> None:
    shop.execute(statement)
    assert_refused(shop, "Invoice", text)


# Where configuration comes from


def test_options_come_from_environment_from_files_and_from_app(shop: Shop) -> None:
    secret = shop.directory / "amqp-url"
    secret.write_text(shop.environ["TEST_AMQP_URL"] + "\n")
    shop.environ["TEST_AMQP_URL"] = "amqp://guest:unused@127.0.0.1:1/"
    shop.write(1, 3)
    relay = shop.relay(
        SIGNALBUS_RELAY_AMQP_URL_FILE=str(secret),
        SIGNALBUS_RELAY_UNTIL_EMPTY="yes",
        SHOP_SIGNALBUS_RELAY_WORKERS="5",
    )
    assert relay.wait(60) == 0
    assert relay.logs("started")[0]["workers"] == 5
    assert shop.left() == 0
