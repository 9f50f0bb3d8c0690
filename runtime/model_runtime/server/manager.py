"""RuntimeManager: puts a model directory behind a port, and takes it away again without losing a call."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import grpc

from ..contract import Contract
from ..errors import InvalidSetting
from ..model.config import ModelOptions
from ..model.directory import ModelDirectory
from ..model.service import RuntimeService
from ..settings import Settings
from ..supervisor.host import Host, HostState, Phase
from ..supervisor.isolated import IsolatedHost
from ..supervisor.launch import Launch, find_python
from . import connections, engine, options, ports, probes, tls
from .health import Health
from .housekeeping import Housekeeping
from .inflation import Inflater
from .methods import Bounds, Gate, Predict, handlers
from .observers import Observer
from .statistics import Statistics
from .stopping import Stop

if TYPE_CHECKING:
    from .tracing import Tracing

log = logging.getLogger(__name__)

DEPARTURE_SECONDS = 0.2  # how late it may be noticed that the last client has left


class RuntimeManager:
    """Serves the model in `model_path` on `port` (0 takes a free one, see `port` after `start`).

        with RuntimeManager("/model", 9090) as runtime:
            runtime.wait()

    `service` is the class that answers predictions; a subclass of RuntimeService makes a custom runtime.
    """

    def __init__(
        self,
        model_path: str | Path,
        port: int,
        *,
        service: type[RuntimeService] = RuntimeService,
        settings: Settings | None = None,
    ) -> None:
        if not 0 <= port <= 65535:
            raise InvalidSetting(f"port: expected a whole number from 0 to 65535, got {port}")
        self.settings = settings or Settings()
        self.directory = ModelDirectory(Path(model_path).absolute())
        self.port = port
        self._service = service
        self._executor = engine.executor()
        self._control = engine.control_executor(self._executor)
        self._health = Health()
        self._bounds = Bounds(self.settings)
        direct = self._executor if isinstance(self._executor, engine.Direct) else None
        self._gate = Gate(self.settings.max_queue, self.settings.max_queue_bytes, direct.departures if direct else None)
        if direct is not None:
            direct.inflater = Inflater(self.settings.max_message_bytes, self._gate.check)
        self._housekeeping = Housekeeping(self.settings, self._executor, self._health, self._bounds)
        self._statistics = Statistics()
        self._observers: tuple[Observer, ...] = ()
        self._tracing: Tracing | None = None
        self._server: grpc.Server | None = None
        self._probes: grpc.Server | None = None
        self._host: Host | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    # Life ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Binds the port and begins to load the model; returns as soon as probes are answered.

        Raises PortUnavailable, InvalidSetting, ModelNotFound or ContractError before anything is bound or loaded.
        """
        contract = self.directory.read_contract()
        credentials = tls.credentials(self.settings)
        self._host = self._make_host(contract)
        self._observers = self._make_observers(self._host)
        self._health.is_alive = self._host.is_alive
        self._server = self._make_server(contract)
        self.port = ports.bind(
            self._server, self.settings.host, self.port, variable="APP_PORT", credentials=credentials
        )
        self._probes = probes.server(self.settings, self.port, self._health)
        self._server.start()
        if self._probes is not None:
            self._probes.start()
        self._housekeeping.start()
        log.info("listening", extra={"port": self.port, "tls": credentials is not None, "contract": str(contract)})
        self._loading_since = time.monotonic()
        self._host.start(self._on_change)

    def stop(self, *, drain_delay: float = 0.0, drain_limit: float = 0.0) -> None:
        """Says NOT_SERVING, answers on while clients leave, lets calls in flight finish, then ends the model.

        Clients have `drain_delay` seconds to leave, and those that are connected still have until `drain_limit`.
        """
        if self._stopped.is_set():
            return
        log.info("stopping", extra={"drain_delay": drain_delay, "grace": self.settings.grace_seconds})
        self._health.drain()
        if drain_delay or drain_limit:
            self._drain(drain_delay, drain_limit)
        if self._server is not None:
            self._end_calls(self._server)
        if self._host is not None:
            self._host.stop()
        if self._tracing is not None:
            self._tracing.stop()
        for executor in (self._executor, self._control):
            executor.shutdown(wait=False, cancel_futures=True)
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        log.info("stopped")

    def _end_calls(self, server: grpc.Server) -> None:
        grace = self.settings.grace_seconds
        if isinstance(self._executor, engine.Direct):
            Stop(server, self.port, self._executor, self._gate, self._bounds).run(grace)
        else:
            server.stop(grace).wait()
        self._housekeeping.stop()
        if self._probes is not None:
            self._probes.stop(0)

    def _drain(self, delay: float, limit: float) -> None:
        """Waits for clients to leave.

        The GOAWAY of a connection's age loses none (MAX_CONNECTION_AGE_SECONDS), and sends clients to look for addresses
        again, among which this one is no longer.
        """
        began = time.monotonic()
        time.sleep(delay)
        while (connected := connections.count(self.port)) and time.monotonic() - began < limit:
            time.sleep(DEPARTURE_SECONDS)
        log.info("drained", extra={"seconds": time.monotonic() - began, "connected": connected})

    def __enter__(self) -> RuntimeManager:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # State --------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> HostState:
        """Whether the model is loading, serving or has failed, and why."""
        return self._health.state

    def wait(self, timeout: float | None = None) -> bool:
        """Blocks until the runtime has stopped. False when `timeout` seconds passed first."""
        return self._stopped.wait(timeout)

    def wait_loaded(self, timeout: float | None = None) -> HostState:
        """Blocks until the model serves or has failed (or the runtime stops, or `timeout` seconds pass); the state then."""
        with self._changed:
            self._changed.wait_for(lambda: self.state.phase is not Phase.LOADING or self._stopped.is_set(), timeout)
        return self.state

    def _on_change(self, state: HostState) -> None:
        self._health.update(state)
        seconds = time.monotonic() - self._loading_since
        if state.phase is Phase.SERVING:
            log.info("serving", extra={"port": self.port, "seconds": seconds})
        elif state.phase is Phase.FAILED:
            log.error("the model cannot serve", extra={"reason": str(state.error or state.message), "seconds": seconds})
        with self._changed:
            self._changed.notify_all()

    # Parts --------------------------------------------------------------------------------------------------------

    def _make_host(self, contract: Contract) -> Host:
        chosen = self.settings
        options = ModelOptions(
            chosen.convention,
            chosen.model_threads,
            chosen.error_details,
            chosen.batch_max_size,
            chosen.max_message_bytes,
        )
        if chosen.isolation == "none":
            # With numpy, which the server of an isolated model does without: 25 MiB, and a third of its start.
            from ..supervisor.inprocess import InProcessHost

            make_service = partial(self._make_service, contract, options)
            return InProcessHost(
                make_service, threads=options.threads, warm_up=chosen.warmup, error_details=options.error_details
            )
        python = find_python(self.directory.path, chosen.model_python)
        return IsolatedHost(
            Launch(self.directory.path, options, python, chosen.warmup, self._service, chosen.max_message_bytes),
            processes=chosen.model_processes,
            timeout=chosen.model_timeout,
            load_timeout=chosen.model_load_timeout,
        )

    def _make_service(self, contract: Contract, options: ModelOptions) -> RuntimeService:
        service = self._service(self.directory.path, contract)
        service.options = options
        return service

    def _make_server(self, contract: Contract) -> grpc.Server:
        limit = (
            None if isinstance(self._executor, engine.Direct) else self.settings.max_queue
        )  # a pool's own queue has none
        server = grpc.server(
            self._control,
            options=options.of_port(self.settings, inflates=limit is None),
            maximum_concurrent_rpcs=limit,
        )
        table = handlers(
            self._predict, contract, self._health, self._executor, self._control, self._bounds, self._statistics
        )
        server.add_generic_rpc_handlers((table,))
        return server

    def _predict(self, path: str) -> Predict:
        assert self._host is not None
        return Predict(path, self._host.submit, self._gate, self._observers)

    def _make_observers(self, host: Host) -> tuple[Observer, ...]:
        """Metrics and tracing, where they are asked for. Neither costs anything where they are not."""
        observers: list[Observer] = [self._statistics]
        if self.settings.metrics_port:
            from .metrics import Metrics

            metrics = Metrics(host, lambda: self.state.phase is Phase.SERVING)
            metrics.serve(self.settings.metrics_port)
            observers.append(metrics)
        if self.settings.tracing:
            from .tracing import Tracing

            self._tracing = Tracing()
            observers.append(self._tracing)
        return tuple(observers)
