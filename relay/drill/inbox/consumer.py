"""The process of a drill with ``--inbox``: starts consumers one after the other, each of which kills itself at a step.

They are forked: so hundreds can be killed in a minute. The parent opens no connection.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from flask import Config

from signalbus_core.inbox import receive

from ..app import PREFIX
from ..relay_process import STARTED, die_with_parent, tie_to_drill
from ..resources import inbox_tables, open_connection

#: The steps at which a consumer is killed, in their order.
STEPS = ("delivered", "recorded", "worked", "committed", "acknowledged")

#: What the parent prints for each consumer that was killed, with the step behind it.
KILLED = "action=killed step="

#: A consumer is killed after at most so many messages. More: fewer kills.
MOST_MESSAGES = 10

PREFETCH_COUNT = 20

RETRY_SECONDS = 0.2


def main() -> None:
    die_with_parent()
    config = Config("")
    config.from_prefixed_env(PREFIX)
    chance = random.Random(config["SEED"])
    deadline = time.monotonic() + float(config["KILL_SECONDS"])
    _print(STARTED.decode())
    deck: list[str] = []
    # Standard input is at its end when the drill is gone.
    while not select.select([0], [], [], 0)[0]:
        deck = deck or chance.sample(STEPS, len(STEPS))
        step, messages = deck.pop(), chance.randint(1, MOST_MESSAGES)
        pid = os.fork()
        if pid == 0:
            _run_child(config, _killer(step, messages, deadline))
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL:
            _print(f"{KILLED}{step}")
        else:
            threading.Event().wait(RETRY_SECONDS)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _killer(step: str, messages: int, deadline: float) -> Callable[[str], None]:
    """What a consumer calls at each step; kills it when it passes its own for the ``messages``-th time."""
    passed = 0

    def at(place: str) -> None:
        nonlocal passed
        passed += place == step
        if passed >= messages and place == step and time.monotonic() < deadline:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def _run_child(config: Config, at: Callable[[str], None]) -> None:
    try:
        tie_to_drill()
        consume(config, at)
    except BaseException:  # noqa: BLE001 - it must never return into the parent's loop
        traceback.print_exc()
    finally:
        os._exit(1)


def consume(config: Config, at: Callable[[str], Any]) -> None:
    """Consume until the connection fails.

    :param at: called with each step that is reached.
    """
    seen, effects = inbox_tables(config["NAME"])
    engine = sa.create_engine(config["SQLALCHEMY_DATABASE_URI"])
    channel = open_connection(config["SIGNALBUS_RABBITMQ_URL"]).channel()
    channel.basic_qos(prefetch_count=PREFETCH_COUNT)
    for delivery, properties, body in channel.consume(seen.name):
        at("delivered")
        with engine.begin() as transaction:
            if receive(transaction, properties.message_id, "drill", table=seen):
                at("recorded")
                transaction.execute(effects.insert().values(number=int(body)))
                at("worked")
        at("committed")
        channel.basic_ack(delivery.delivery_tag)
        at("acknowledged")


if __name__ == "__main__":
    main()
