"""The composition root: builds the parts of the relay, starts and supervises them, and stops them in reverse order.

Invariant: a database or broker that is away does not end the process. A thread that dies does, and so does a table that
cannot serve as an outbox.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

from signalbus_core.lowlevel import SignalSpec, has_integer_key, stop_requests

from .application.databases import APPLICATION_NAME, DRIVERS, limit_connections
from .application.fencing import fencing_problems
from .application.load import LoadedApp
from .application.pools import spare_connections
from .config.resolve import ConfigError, RelayConfig
from .early_server import EarlySite
from .exit_codes import EXIT_DRAIN_TIMED_OUT, EXIT_OK, EXIT_RUNTIME, StopRequest
from .listeners import Listeners
from .notifier.thread import NotifyListener
from .notifier.wakeups import Wakeups
from .poller.database import PolledDatabase, TableOwners
from .poller.diagnosis.unreached import Unreached
from .poller.interval import PollInterval
from .poller.pauses import PausedModels
from .poller.poller import Poller
from .poller.requests import PollRequests
from .poller.thread import PollLoop
from .poller.until_empty import UntilEmpty
from .replicas.build import build_replicas
from .runtime import Runtime
from .scheduler import Scheduler
from .telemetry.health import FLOW_WITHIN_SECONDS
from .web.site import build_site
from .worker.broker_connections import BrokerConnections
from .worker.bursts import Bursts
from .worker.hanging import EmptyBursts, HangingBursts
from .worker.low_water import LowWater
from .worker.model_state import ModelState
from .worker.recovery.fresh_first import FreshFirst
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
    """One relay process: an HTTP server, workers, a poller for each database, and the thread that supervises them."""

    def __init__(self, loaded: LoadedApp, config: RelayConfig, site: EarlySite) -> None:
        self._config = config
        self._early_site = site
        self._loaded = loaded
        self._app = loaded.app
        self._bus = loaded.bus
        specs = choose_specs(loaded, config.signals)
        if problems := fencing_problems(self._app, specs, config.burst_limits):
            raise ConfigError([f"Order by key: {one}." for one in problems])
        names = [spec.name for spec in specs]
        empty = EmptyBursts()
        self._listeners = Listeners(
            names,
            logger,
            config.stall_after_seconds,
            # An idle relay proves with each poll that signals flow.
            max(FLOW_WITHIN_SECONDS, 2 * config.poll_interval_seconds),
            others=[empty],
            databases=len({spec.bind_key for spec in specs}),
        )
        self._runtime = Runtime(self._listeners.events, logger=logger)
        self._stop = self._runtime.stop

        with self._app.app_context():
            self._engines = {spec.bind_key: self._bus.db.engines[spec.bind_key] for spec in specs}
        most_spares = spare_connections(self._engines.values(), config.workers)
        self._scheduler = Scheduler(names, config.workers, most_spares=most_spares)
        self._hanging = HangingBursts(self._scheduler, self._runtime)
        self._states = {spec.name: self._state_of(spec) for spec in specs}
        limits = config.burst_limits
        retry_stores = RetryStores(specs, self._engines, RetryPolicy(config.park_after), limits)
        for engine in self._engines.values():
            limit_connections(engine, APPLICATION_NAME)
        self._poll_requests: list[PollRequests] = []
        self._poll_loops: list[PollLoop] = []
        self._notifiers: list[NotifyListener] = []
        self._build_pollers(specs, retry_stores, empty)
        self._bursts = Bursts(self._app, self._bus, retry_stores, limits, self._runtime)
        self._workers = [self._build_worker(f"worker-{number + 1}") for number in range(config.workers)]
        self._spares = 0
        self._replicas = build_replicas(loaded, config, self._listeners, self._runtime.servers)
        self._threads: dict[threading.Thread, PollLoop | Worker | NotifyListener] = {}

    def _state_of(self, spec: SignalSpec) -> ModelState:
        # New signals are those with higher keys: keys that are no numbers do not tell, and an order must be kept.
        has_fresh = self._config.fresh_first and has_integer_key(spec) and spec.order is None
        low_water = LowWater(is_kept=has_integer_key(spec) and spec.order is None)
        return ModelState(spec, low_water=low_water, fresh=FreshFirst(is_on=has_fresh))

    def _build_pollers(self, specs: list[SignalSpec], retry_stores: RetryStores, empty: EmptyBursts) -> None:
        """For each database what finds its signals: a poller with its thread, and perhaps a notifier."""
        config, scheduler, runtime = self._config, self._scheduler, self._runtime
        ends = UntilEmpty(len(self._engines), scheduler, config.drain_timeout_seconds, runtime.clock)
        owners = TableOwners()
        for bind_key, engine in self._engines.items():
            database = PolledDatabase(bind_key, engine, [spec for spec in specs if spec.bind_key == bind_key], owners)
            states = {name: self._states[name] for name in database.names}
            requests, paused = PollRequests(), PausedModels(scheduler, runtime)
            poller = Poller(database, states, retry_stores, paused, scheduler, runtime)
            unreached = Unreached(states, retry_stores, empty, self._listeners.incidents, runtime)
            interval = PollInterval(config.poll_interval_seconds)
            until_empty = ends if config.until_empty else None
            self._poll_loops.append(PollLoop(poller, scheduler, requests, interval, unreached, runtime, until_empty))
            runtime.servers.on_suspicion(requests.poll_now)
            self._poll_requests.append(requests)
            # With another driver there is no notifier; signals are found by polling.
            if config.doorbell != "off" and not config.until_empty and engine.dialect.driver in DRIVERS:
                wakeups = Wakeups(requests, poller, scheduler, runtime.events)
                notifier = NotifyListener(bind_key, engine, database.specs, wakeups, paused, runtime)
                self._notifiers.append(notifier)

    def _build_worker(self, name: str, retires: Callable[[], bool] = lambda: False) -> Worker:
        publishers = [known.bound_to(self._app) for known in self._app.extensions.get("signalbus_publishers", [])]
        broker = BrokerConnections(name, publishers, self._runtime)
        return Worker(name, self._states, self._bursts, self._scheduler, broker, self._runtime, retires)

    def run(self) -> int:
        """Start all parts, wait for a stop request, drain, and close in reverse order."""
        listeners = self._listeners
        known = (listeners.status, listeners.health, listeners.metrics, listeners.incidents, self._replicas)
        self._early_site.replace_app(build_site(self._loaded, self._config, self._engines, *known))
        with stop_requests(lambda name: self._stop.request(StopRequest(name, by_signal=True))):
            # The objects loaded so far stay; garbage collection of them takes a sixth of the time of full bursts.
            gc.freeze()
            self._start_threads()
            self._replicas.start()
            self._runtime.events.relay_changed("running")
            request = self._supervise()
            return self._drain(request)

    def _start_threads(self) -> None:
        parts: list[PollLoop | Worker | NotifyListener] = [*self._poll_loops, *self._workers, *self._notifiers]
        for part in parts:
            self._start(part)
        logger.info(
            "Relaying %s with %d workers.",
            ", ".join(self._states),
            len(self._workers),
            extra={"action": "started", "signals": list(self._states), "workers": len(self._workers)},
        )

    def _start(self, part: PollLoop | Worker | NotifyListener) -> None:
        self._runtime.events.progressed(part.name)
        # Daemon threads: one that hangs in a send method must not keep the process alive after the drain timeout.
        thread = threading.Thread(target=part.run, name=part.name, daemon=True)
        self._threads[thread] = part
        thread.start()

    def _supervise(self) -> StopRequest:
        """Wait for a stop request, or for a thread to die; meanwhile check for bursts that hang."""
        while True:
            if request := self._stop.next_request(SUPERVISE_EVERY_SECONDS):
                return request
            self._hanging.run_once()
            self._add_spare()
            ended = {thread: part for thread, part in self._threads.items() if not thread.is_alive()}
            dead = [part.name for part in ended.values() if not (isinstance(part, Worker) and part.has_retired)]
            if dead:
                # A poller that ends the relay asks for that first; it may have done so since the wait above.
                return self._stop.next_request(0) or StopRequest(f"thread died: {', '.join(dead)}", EXIT_RUNTIME)
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
        self._runtime.events.relay_changed("draining")
        self._stop.set()
        self._runtime.servers.close()
        for requests in self._poll_requests:
            requests.close()
        self._scheduler.close()
        started = time.monotonic()
        deadline = started + self._config.drain_timeout_seconds
        while any(thread.is_alive() for thread in self._threads):
            request_again = self._stop.next_request(0.02)
            # The poller's request, which is not by signal, may come late: it hurries nothing.
            if (request_again and request_again.by_signal) or time.monotonic() >= deadline:
                busy = [thread.name for thread in self._threads if thread.is_alive()]
                if busy:
                    return self._give_up(busy)
        self._replicas.close()
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

    def _give_up(self, busy: list[str]) -> int:
        logger.error(
            "Still busy, ended all the same: %s. Signals in flight stay in their tables; some may be sent twice.",
            ", ".join(busy),
            extra={"action": "drain_timed_out", "threads": busy, "exit_code": EXIT_DRAIN_TIMED_OUT},
        )
        self._replicas.close()
        return EXIT_DRAIN_TIMED_OUT


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
