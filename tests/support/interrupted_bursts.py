"""Bursts that die or wait at a failpoint, as relays would that are killed or stopped there."""

from __future__ import annotations

import threading
from collections.abc import Callable

from signalbus_core.burst import failpoints

#: Where a burst can be interrupted, whoever sends its signals.
STOPS = ("begin", "locked", "confirmed", "deleted", "committed")


class GreenletExit(BaseException):
    """As gevent has it: the burst has to end."""


class Death(GreenletExit):
    """Ends a burst as the death of its process would: nothing after it is executed."""


class Interrupter:
    """Interrupts bursts. Use one at a time, and :meth:`close` it.

    :param ended: errors with which an interrupted burst may end.
    """

    def __init__(self, *ended: type[BaseException]) -> None:
        self._ended = (Death, *ended)
        self._handlers: dict[int, Callable[[str], None]] = {}
        self._stopped: list[_StoppedBurst] = []
        failpoints.switch_on(self._reach)

    def kill(self, burst: Callable[[], object], place: str) -> None:
        """Run a burst that dies at a place, if it comes there."""

        def die(reached: str) -> None:
            if reached == place:
                raise Death

        self.run(burst, die)

    def stop(self, burst: Callable[[], object], place: str) -> None:
        """Begin a burst that waits at a place, if it comes there, until :meth:`go_on`. Two wait at most."""
        if len(self._stopped) < 2:
            stopped = _StoppedBurst(lambda at_place: self.run(burst, at_place), place)
            if stopped.thread.is_alive():
                self._stopped.append(stopped)

    def go_on(self, *, dies: bool) -> None:
        """Let the burst that waits for the longest time end, or die."""
        if self._stopped:
            self._stopped.pop(0).go_on(dies=dies)

    def run(self, burst: Callable[[], object], at_place: Callable[[str], None]) -> None:
        """Run a burst in this thread.

        :param at_place: called with each place that it comes to.
        """
        self._handlers[threading.get_ident()] = at_place
        try:
            burst()
        except self._ended:
            return
        finally:
            del self._handlers[threading.get_ident()]

    def close(self) -> None:
        """The bursts that wait die."""
        while self._stopped:
            self.go_on(dies=True)
        failpoints.switch_on(None)

    def _reach(self, place: str) -> None:
        handler = self._handlers.get(threading.get_ident())
        if handler is not None:
            handler(place)


class _StoppedBurst:
    def __init__(self, run: Callable[[Callable[[str], None]], None], place: str) -> None:
        self._place = place
        self._reached, self._go = threading.Event(), threading.Event()
        self._dies = False
        self.thread = threading.Thread(target=run, args=(self._stop_here,))
        self.thread.start()
        while self.thread.is_alive() and not self._reached.wait(0.005):
            pass

    def _stop_here(self, place: str) -> None:
        if place == self._place and not self._reached.is_set():
            self._reached.set()
            assert self._go.wait(30)
            if self._dies:
                raise Death

    def go_on(self, *, dies: bool) -> None:
        self._dies = dies
        self._go.set()
        self.thread.join(30)
        assert not self.thread.is_alive()
