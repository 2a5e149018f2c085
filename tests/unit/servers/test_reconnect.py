"""When a server that is away is tried again, by which of the threads that wait for it, and how often."""

from __future__ import annotations

import heapq
import itertools
import random
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.servers.reconnect import (
    FOLLOWING_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LONGEST_REFUSED_PAUSE_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    Schedule,
    Servers,
)
from tests.support.clock import Clock
from tests.support.fuzzing import FACTOR

#: What one process may ask of a server, in tries in any one second.
MOST_TRIES_A_SECOND = 6


class Threads:
    """Threads of several processes, simulated, that all want a connection to a server.

    :param back_at: when the server accepts connections.
    :param lasts: how long a try takes.
    """

    def __init__(self, processes: int, threads: int, back_at: float, seed: int, *, refused: bool, lasts: float) -> None:
        uniform = random.Random(seed).uniform
        self.schedules = [Schedule(uniform) for _ in range(processes)]
        self.back_at, self.refused, self.lasts = back_at, refused, lasts
        #: When each try began, and in which process.
        self.tries: list[tuple[float, int]] = []
        #: When each connection was open.
        self.connected: list[tuple[float, int]] = []
        self._queue = [(0.0, process, thread, False) for process in range(processes) for thread in range(threads)]

    def run(self) -> Threads:
        heapq.heapify(self._queue)
        while self._queue:
            now, process, thread, is_trying = heapq.heappop(self._queue)
            schedule = self.schedules[process]
            if is_trying:
                if now - self.lasts >= self.back_at:
                    schedule.reached(now)
                    self.connected.append((now, process))
                    self._wake(process, now)
                    continue
                schedule.failed(now, "refused", was_refused=self.refused)
            elif schedule.claim(now):
                self.tries.append((now, process))
                heapq.heappush(self._queue, (now + self.lasts, process, thread, True))
                continue
            at = now + max(schedule.wait_seconds(now), 1e-6)
            heapq.heappush(self._queue, (at, process, thread, False))
        return self

    def _wake(self, process: int, now: float) -> None:
        woken = [entry if entry[1] != process or entry[3] else (now, *entry[1:]) for entry in self._queue]
        self._queue = sorted(woken)

    def most_in_a_second(self, process: int) -> int:
        times = [at for at, one in self.tries if one == process]
        return max(sum(first <= at < first + 1.0 for at in times) for first in times)


simulated = given(
    processes=st.integers(1, 5),
    threads=st.integers(1, 5),
    back_at=st.floats(0.0, 60.0),
    seed=st.integers(0, 2**32),
    lasts=st.sampled_from([0.0005, 0.05]),
)


@simulated
def test_a_server_that_is_back_is_noticed_within_a_second(
    processes: int, threads: int, back_at: float, seed: int, lasts: float
) -> None:
    group = Threads(processes, threads, back_at, seed, refused=False, lasts=lasts).run()
    assert len(group.connected) == processes * threads
    for process in range(processes):
        first = min(at for at, one in group.connected if one == process)
        assert first - back_at <= LONGEST_PAUSE_SECONDS + 2 * lasts + 1e-5


@simulated
def test_threads_of_a_process_make_few_tries_however_many_they_are(
    processes: int, threads: int, back_at: float, seed: int, lasts: float
) -> None:
    group = Threads(processes, threads, back_at + 1.0, seed, refused=False, lasts=lasts).run()
    assert max(map(group.most_in_a_second, range(processes))) <= MOST_TRIES_A_SECOND
    before = [at for at, _ in group.tries if at < group.back_at]
    assert len(before) <= processes * (1 + group.back_at / SHORTEST_PAUSE_SECONDS)


@simulated
def test_refused_logins_come_ever_more_rarely(
    processes: int, threads: int, back_at: float, seed: int, lasts: float
) -> None:
    group = Threads(processes, threads, back_at, seed, refused=True, lasts=lasts).run()
    for process in range(processes):
        times = [at for at, one in group.tries if one == process and at < back_at]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert all(pause >= LONGEST_REFUSED_PAUSE_SECONDS / 2 for pause in pauses[3:])
        first = min(at for at, one in group.connected if one == process)
        assert first - back_at <= LONGEST_REFUSED_PAUSE_SECONDS + 2 * lasts + 1e-5


@settings(max_examples=12 * FACTOR)
@given(seed=st.integers(0, 2**32))
def test_eight_replicas_of_four_workers_are_no_stampede(seed: int) -> None:
    group = Threads(8, 4, 60.0, seed, refused=False, lasts=0.01).run()
    away = [at for at, _ in group.tries if 10.0 < at < 60.0]
    assert max(sum(first <= at < first + 1.0 for at in away) for first in away) <= 8 * 4
    back = [at for at, _ in group.tries if at >= 60.0]
    assert max(sum(first <= at < first + 1.0 for at in back) for first in back) <= 8 * 5
    for process in range(8):
        opened = sorted(at for at, one in group.connected if one == process)
        assert all(later - before >= FOLLOWING_SECONDS for before, later in itertools.pairwise(opened))


def test_the_end_of_an_outage_wakes_all_that_wait() -> None:
    # The clock stands still, and a pause would take an hour: only the news can end a wait.
    servers = Servers(Clock(), lambda _low, _high: 3600.0)
    assert servers.claim("broker")
    assert not servers.claim("broker")
    assert servers.claim("database")
    servers.failed("broker", "refused")
    begun = threading.Barrier(4, timeout=30)

    def wait() -> None:
        begun.wait()
        while servers.problem("broker") is not None:
            servers.wait(["broker"], 3600)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    servers.reached("broker")
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def test_nobody_waits_for_a_server_once_the_relay_stops() -> None:
    servers = Servers()
    assert servers.claim("broker")
    servers.close()
    servers.wait(["broker"], 3600)
