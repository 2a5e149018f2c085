"""The board: what threads write on it is what is read from it."""

from __future__ import annotations

import threading

import pytest

from relay.telemetry.status import Status
from tests.support.clock import Clock
from tests.support.recorder import ENDED, burst


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> Status:
    return Status(["Order", "Invoice"], clock, now=lambda: 1000.0 + clock.now)


def test_a_worker_is_shown_with_what_it_does_and_for_how_long(status: Status, clock: Clock) -> None:
    status.worker_changed("worker-1", "sending", "Order", 50)
    clock.now = 3
    [worker] = status.workers()
    assert (worker.doing, worker.model, worker.signals, worker.seconds) == ("sending", "Order", 50, 3)


def test_a_worker_that_says_the_same_again_has_not_begun_anew(status: Status, clock: Clock) -> None:
    status.worker_changed("worker-1", "idle")
    clock.now = 5
    status.worker_changed("worker-1", "idle")
    assert status.workers()[0].seconds == 5
    status.worker_changed("worker-1", "locking", "Order")
    assert status.workers()[0].seconds == 0


def test_workers_are_in_the_order_of_their_numbers(status: Status) -> None:
    for number in (10, 2, 1):
        status.worker_changed(f"worker-{number}", "idle")
    assert [worker.name for worker in status.workers()] == ["worker-1", "worker-2", "worker-10"]


def test_what_was_sent_is_counted_with_its_time(status: Status, clock: Clock) -> None:
    status.burst_ended("Order", burst(30), ENDED)
    clock.now = 6
    order, invoice = status.models()
    assert (order.sent, order.sent_at, order.per_second) == (30, 1000.0, 2.0)
    assert (invoice.sent, invoice.sent_at) == (0, None)


def test_sending_nothing_is_no_success(status: Status) -> None:
    status.burst_ended("Order", burst(0), ENDED)
    assert status.models()[0].sent_at is None


def test_before_the_first_measurement_nothing_is_known(status: Status) -> None:
    assert status.models()[0].gauge is None
    assert status.failed_signals() == 0


def test_measurements_of_both_kinds_are_kept_together(status: Status) -> None:
    status.failed_counted("Order", 2, 1)
    status.backlog_measured("Order", 40, 1.5)
    gauge = status.models()[0].gauge
    assert gauge is not None
    assert (gauge.backlog, gauge.lag_seconds, gauge.waiting, gauge.parked) == (40, 1.5, 2, 1)
    assert status.failed_signals() == 3


def test_threads_that_write_at_once_lose_nothing(status: Status) -> None:
    def write() -> None:
        for _ in range(500):
            status.burst_ended("Order", burst(1), ENDED)
            status.worker_changed(threading.current_thread().name, "sending", "Order", 1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert status.models()[0].sent <= 2000
    for thread in threads:
        thread.join()
    assert status.models()[0].sent == 2000
