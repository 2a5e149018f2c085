"""The composition root: builds the parts of the relay, starts and supervises them, and stops them in reverse order.

Invariant: a database or broker that is away does not end the process. A thread that dies does, and so does a table that
cannot serve as an outbox.
"""

from __future__ import annotations

import gc
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from signalbus_core.lowlevel import SignalSpec, has_integer_key

from .application.databases import APPLICATION_NAME, DRIVERS, limit_connections
from .application.load import LoadedApp
from .config.resolve import ConfigError, RelayConfig
from .early_server import EarlySite
from .exit_codes import EXIT_DRAIN_TIMED_OUT, EXIT_OK, EXIT_RUNTIME, StopRequest
from .notifier.thread import NotifyListener
from .poller.pauses import PausedModels
from .poller.poller import Poller
from .poller.requests import PollRequests
from .poller.thread import PollLoop
from .poller.unreached import Unreached
from .scheduler import Schedule, Scheduler
from .telemetry.health import FLOW_WITHIN_SECONDS, Health
from .telemetry.incidents import Incidents
from .telemetry.metrics import Metrics
from .telemetry.status import Status
from .web.site import build_site
from .worker.backoff import PollInterval
from .worker.broker_connections import BrokerConnections
from .worker.hanging import EmptyBursts, HangingBursts
from .worker.low_water import LowWater
from .worker.model_state import ModelState
from .worker.retry_policy import RetryPolicy
from .worker.retry_store import RetryStores
from .worker.worker import Worker

logger = logging.getLogger("signalbus.relay")

#: The interval at which the main thread checks that all threads are alive.
SUPERVISE_EVERY_SECONDS = 0.5


def run(loaded: LoadedApp, config: RelayConfig, site: EarlySite) -> int:
    """Run the relay until it is asked to stop.

    :param site: answers until the relay's own site does.
    :returns: the exit code.
    :raises ConfigError: an option does not fit the application, or the HTTP address cannot be used.
    """
    return Daemon(loaded, config, site).run()


class Daemon:
    """One relay process: an HTTP server, a poller, workers, and the main thread that supervises them."""

    def __init__(self, loaded: LoadedApp, config: RelayConfig, site: EarlySite) -> None:
        self._config = config
        self._early_site = site
        self._loaded = loaded
        self._app = loaded.app
        self._bus = loaded.bus
        specs = choose_specs(loaded, config.signals)
        names = [spec.name for spec in specs]
        self._stop = threading.Event()
        # A signal handler may interrupt the main thread at any point; putting into this queue is safe even there.
        self._requests: queue.SimpleQueue[StopRequest] = queue.SimpleQueue()

        self._metrics = Metrics()
        self._metrics.prepare(names)
        self._health = Health(
            config.stall_after_seconds,
            # An idle relay proves with each poll that signals flow.
            flow_within_seconds=max(FLOW_WITHIN_SECONDS, 2 * config.poll_interval_seconds),
        )
        self._status = Status(names)
        self._looks = PollRequests()
        self._scheduler = Scheduler(Schedule(names, config.workers), on_sent=self._looks.sent)
        self._incidents = Incidents(logger)
        self._hanging = HangingBursts(self._scheduler, self._health, self._incidents, self._status)
        self._empty = EmptyBursts()
        self._progress = {
            spec.name: ModelState(spec, low_water=LowWater(is_kept=has_integer_key(spec))) for spec in specs
        }
        self._limits = config.burst_limits
        with self._app.app_context():
            self._engines = {spec.bind_key: self._bus.db.engines[spec.bind_key] for spec in specs}
        self._retry_stores = RetryStores(specs, self._engines, RetryPolicy(config.park_after), self._limits)
        for engine in self._engines.values():
            limit_connections(engine, APPLICATION_NAME)
        self._paused = PausedModels(self._scheduler, self._metrics, self._status)
        self._poll_loop = PollLoop(
            Poller(
                self._engines,
                self._progress,
                self._retry_stores,
                self._paused,
                self._scheduler,
                self._metrics,
                self._health,
                self._incidents,
                status=self._status,
            ),
            self._scheduler,
            self._health,
            PollInterval(config.poll_interval_seconds),
            self._looks,
            self._stop,
            self._requests.put,
            Unreached(self._engines, self._progress, self._retry_stores, self._empty, self._health, self._incidents),
            until_empty=config.until_empty,
            patience_seconds=config.drain_timeout_seconds,
        )
        self._workers = [self._build_worker(f"worker-{number + 1}") for number in range(config.workers)]
        self._spares = 0
        self._notifiers = self._build_notifiers(specs)
        self._threads: dict[threading.Thread, PollLoop | Worker | NotifyListener] = {}

    def _build_notifiers(self, specs: list[SignalSpec]) -> list[NotifyListener]:
        if self._config.doorbell == "off" or self._config.until_empty:
            return []
        return [
            NotifyListener(
                bind_key,
                engine,
                [spec for spec in specs if spec.bind_key == bind_key],
                self._looks,
                self._health,
                self._incidents,
                self._stop,
                self._paused,
            )
            for bind_key, engine in self._engines.items()
            # With another driver there is no notifier; signals are found by polling.
            if engine.dialect.driver in DRIVERS
        ]

    def _build_worker(self, name: str, retires: Callable[[], bool] = lambda: False) -> Worker:
        publishers = [known.bound_to(self._app) for known in self._app.extensions.get("signalbus_publishers", [])]
        link = BrokerConnections(name, publishers, self._metrics, self._health, self._incidents)
        return Worker(
            name,
            self._app,
            self._bus,
            self._progress,
            self._retry_stores,
            self._limits,
            self._scheduler,
            link,
            self._metrics,
            self._health,
            self._incidents,
            self._stop,
            status=self._status,
            empty=self._empty,
            retires=retires,
        )

    def run(self) -> int:
        """Start all parts, wait for a stop request, drain, and close in reverse order."""
        self._early_site.give_way(
            build_site(
                self._loaded, self._config, self._engines, self._status, self._health, self._metrics, self._incidents
            )
        )
        with self._stop_requests_from_signals():
            # The objects loaded so far stay; garbage collection of them takes a sixth of the time of full bursts.
            gc.freeze()
            self._start_threads()
            self._set_state("running")
            request = self._supervise()
            return self._drain(request)

    def _start_threads(self) -> None:
        parts: list[PollLoop | Worker | NotifyListener] = [self._poll_loop, *self._workers, *self._notifiers]
        for part in parts:
            self._start(part)
        logger.info(
            "Relaying %s with %d workers.",
            ", ".join(self._progress),
            len(self._workers),
            extra={"action": "started", "signals": list(self._progress), "workers": len(self._workers)},
        )

    def _start(self, part: PollLoop | Worker | NotifyListener) -> None:
        self._health.beat(part.name)
        # Daemon threads: one that hangs in a send method must not keep the process alive after the drain timeout.
        thread = threading.Thread(target=part.run, name=part.name, daemon=True)
        self._threads[thread] = part
        thread.start()

    def _supervise(self) -> StopRequest:
        """Wait for a stop request, or for a thread to die; meanwhile check for bursts that hang."""
        while True:
            try:
                return self._requests.get(timeout=SUPERVISE_EVERY_SECONDS)
            except queue.Empty:
                self._hanging.run_once()
                self._add_spare()
            ended = {thread: part for thread, part in self._threads.items() if not thread.is_alive()}
            dead = [part.name for part in ended.values() if not (isinstance(part, Worker) and part.has_retired)]
            if dead:
                return StopRequest(f"thread died: {', '.join(dead)}", EXIT_RUNTIME)
            for thread in ended:
                del self._threads[thread]

    def _add_spare(self) -> None:
        """Start one more worker when all are busy, one of them with a slow burst, and a model waits."""
        if self._scheduler.add_spare():
            self._spares += 1
            spare = self._build_worker(f"worker-{len(self._workers) + self._spares}", self._scheduler.remove_spare)
            logger.info(
                "All workers are busy with slow bursts; %s is started beside them until one is free again.",
                spare.name,
                extra={"action": "spare_worker_started", "worker": spare.name},
            )
            self._start(spare)

    def _drain(self, request: StopRequest) -> int:
        """Start no new burst, and wait for those in flight until the drain timeout."""
        logger.log(
            logging.INFO if request.exit_code == EXIT_OK else logging.ERROR,
            "Stopping: %s.",
            request.reason,
            extra={"action": "stopping", "reason": request.reason},
        )
        self._set_state("draining")
        self._stop.set()
        self._looks.close()
        self._scheduler.close()
        started = time.monotonic()
        deadline = started + self._config.drain_timeout_seconds
        while any(thread.is_alive() for thread in self._threads):
            if self._hurried(0.02) or time.monotonic() >= deadline:
                busy = [thread.name for thread in self._threads if thread.is_alive()]
                if busy:
                    return self._give_up(busy)
        for engine in self._engines.values():
            engine.dispose()
        logger.info(
            "Stopped.",
            extra={
                "action": "stopped",
                "exit_code": request.exit_code,
                "drain_seconds": round(time.monotonic() - started, 3),
            },
        )
        return request.exit_code

    def _hurried(self, timeout_seconds: float) -> bool:
        """Whether a second POSIX signal came."""
        try:
            return self._requests.get(timeout=timeout_seconds).by_signal
        except queue.Empty:
            return False

    def _give_up(self, busy: list[str]) -> int:
        logger.error(
            "Still busy, ended all the same: %s. Signals in flight stay in their tables; some may be sent twice.",
            ", ".join(busy),
            extra={"action": "drain_timed_out", "threads": busy, "exit_code": EXIT_DRAIN_TIMED_OUT},
        )
        return EXIT_DRAIN_TIMED_OUT

    def _set_state(self, state: str) -> None:
        self._health.set_state(state)
        self._metrics.set_relay_state(state)

    @contextmanager
    def _stop_requests_from_signals(self) -> Iterator[None]:
        def request(number: int, _frame: FrameType | None) -> None:
            self._requests.put(StopRequest(signal.Signals(number).name, EXIT_OK, by_signal=True))

        handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {
            number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def choose_specs(loaded: LoadedApp, wanted: tuple[str, ...]) -> list[SignalSpec]:
    """The signal models to relay: all of them, or those that were named.

    :raises ConfigError: a name that no signal model has.
    """
    with loaded.app.app_context():
        specs = loaded.bus.specs()
    known = {spec.name: spec for spec in specs} | {spec.model.__name__: spec for spec in specs}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            [
                f"--signals {name}: there is no such signal model. Known are: {', '.join(s.name for s in specs)}."
                for name in unknown
            ]
        )
    return [spec for spec in specs if not wanted or spec.name in wanted or spec.model.__name__ in wanted]
