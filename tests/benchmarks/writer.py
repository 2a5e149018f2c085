"""A writer that keeps its pace: each signal has its time, and its own transaction, whatever became of the others.

In a process of its own. Run with the URL of the database, the rate and the seconds; it prints, as JSON, the body of
each signal with the time, on the monotonic clock, when its commit was answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import psycopg2

from .places import ROOT

#: A writer whose commits take longer than its turns lets others of them write meanwhile.
SIGNALS_OF_A_THREAD = 50


def write(database_url: str, rate: int, seconds: float) -> dict[str, float]:
    """Write signals at a rate; return when each was committed."""
    arguments = (database_url.replace("+psycopg2", ""), str(rate), str(seconds))
    command = [sys.executable, "-m", "tests.benchmarks.writer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    committed: dict[str, float] = json.loads(done.stdout)
    return committed


def main(url: str, rate: int, seconds: float) -> dict[str, float]:
    count = max(1, round(rate * seconds))
    threads = max(1, rate // SIGNALS_OF_A_THREAD)
    committed: dict[str, float] = {}
    ready = threading.Barrier(threads + 1)
    started: list[float] = []

    def run(first: int) -> None:
        connection = psycopg2.connect(url)
        connection.autocommit = True
        tick = threading.Event()
        with connection.cursor() as cursor:
            ready.wait()
            ready.wait()
            for number in range(first, count, threads):
                tick.wait(max(0.0, started[0] + number / rate - time.monotonic()))
                cursor.execute("INSERT INTO signal_0 (id, body) VALUES (%s, %s)", (number + 1, f"{number:06}"))
                committed[f"{number:06}"] = time.monotonic()
        connection.close()

    running = [threading.Thread(target=run, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    started.append(time.monotonic() + 0.05)
    ready.wait()
    for thread in running:
        thread.join()
    return committed


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])), sys.stdout)
