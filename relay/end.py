"""The end of the process. Invariant: it ends with its exit code, whatever the application has left running.

Python waits for all threads that are no daemons, for the functions of ``atexit`` and for the processes of
``multiprocessing``, without a limit. An orchestrator would have to kill the process, and would see no exit code.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, suppress
from typing import NoReturn

from signalbus_core.lowlevel import STOP_SIGNALS, stop_requests

from .exit_codes import EXIT_DRAIN_TIMED_OUT, EXIT_OK
from .telemetry.logs.loggers import OwnLogger

logger = logging.getLogger("signalbus.relay")

#: How long threads and exit functions of the application may take to end. Longer: those that never do delay each stop.
END_WITHIN_SECONDS = 3.0


def ending_on_request() -> AbstractContextManager[None]:
    """While entered, SIGTERM and SIGINT end the process, whatever the application does: nothing has begun to be sent.

    In a container the relay is process 1, for which the kernel ignores signals without a handler.
    """
    return stop_requests(lambda name: _thread.start_new_thread(_end_before_start, (name,)))


def ignore_requests() -> None:
    """From now on SIGTERM and SIGINT do nothing: the process ends already, and its exit code is known."""
    for one in STOP_SIGNALS:
        signal.signal(one, signal.SIG_IGN)


def _end_before_start(name: str) -> None:
    # By a thread of its own: the main thread may hold the locks that the log needs.
    logger.info("Stopping: %s, before the relay has begun.", name, extra={"action": "stopping", "reason": name})
    logger.info("Stopped.", extra={"action": "stopped", "exit_code": EXIT_OK})
    _write_log()
    _end_now(EXIT_OK)


def end_process(exit_code: int) -> NoReturn:
    """End the process as Python does, but not later than after :data:`END_WITHIN_SECONDS`."""
    if _thread.start_new_thread.__module__ != "_thread":
        # The application has replaced threads and locks, also those of the log; nothing of it has begun to work.
        _end_now(exit_code)
    _write_log()
    if exit_code == EXIT_DRAIN_TIMED_OUT:
        # A thread is stuck; the interpreter would wait for a lock that it holds.
        _end_now(exit_code)
    threading.Thread(target=_end_in_time, args=(exit_code,), name="end", daemon=True).start()
    sys.exit(exit_code)


def _end_in_time(exit_code: int) -> None:
    # The main thread never sets it: it ends the process, and this thread with it.
    threading.Event().wait(END_WITHIN_SECONDS)
    left = [thread.name for thread in threading.enumerate() if _keeps_the_process_alive(thread)]
    what = f"threads of the application ({', '.join(left)})" if left else "functions of the application at exit"
    logger.warning("Ended without waiting for %s.", what, extra={"action": "ended_early", "threads": left})
    _write_log()
    _end_now(exit_code)


def _keeps_the_process_alive(thread: threading.Thread) -> bool:
    return not thread.daemon and thread is not threading.main_thread()


def _write_log() -> None:
    if OwnLogger.handler is not None:
        OwnLogger.handler.flush()


def _end_now(exit_code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(ValueError, OSError):
                stream.flush()
    os._exit(exit_code)
