"""One server for several test processes: the process that started them has it, and lends it to those who ask.

It starts when it is first asked for, and ends with its owner, also where the tests are broken off.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Client, Listener

from .servers import RabbitMQ

#: Where the lender is to be asked.
LENDER_VARIABLE = "SIGNALBUS_TEST_LENDER"


class Lender:
    """Lends what ``acquire`` gives; it has to be of a kind that can be pickled."""

    def __init__(self, acquire: Callable[[], AbstractContextManager[RabbitMQ]]) -> None:
        self._acquire = acquire
        self._listener = Listener(family="AF_UNIX")
        self.address = str(self._listener.address)
        self._stack = contextlib.ExitStack()
        self._server: RabbitMQ | None = None
        self._thread = threading.Thread(target=self._serve, name="lender", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with Client(self.address) as connection:
            connection.send(False)
        self._thread.join()
        self._listener.close()
        self._stack.close()

    def _serve(self) -> None:
        goes_on = True
        while goes_on:
            # Whoever asked may be gone before there is an answer.
            with contextlib.suppress(OSError, EOFError), self._listener.accept() as connection:
                goes_on = connection.recv()
                if goes_on:
                    connection.send(self._lend())

    def _lend(self) -> RabbitMQ | Exception:
        try:
            self._server = self._server or self._stack.enter_context(self._acquire())
        except Exception as error:
            return error
        return self._server


def borrow(address: str) -> RabbitMQ:
    """The server that is lent there.

    :raises Exception: there is none to be had; the error says why.
    """
    with Client(address) as connection:
        connection.send(True)
        answer = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer
