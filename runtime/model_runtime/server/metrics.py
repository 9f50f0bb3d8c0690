"""Prometheus metrics on a port of their own. Everything is counted in this process: model processes report with each answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..errors import OutputMismatch, PortUnavailable, PredictionError
from ..outcome import Outcome
from ..protocols import PROTOCOL_BY_PATH
from ..supervisor.host import Host
from . import codes
from .observers import End

_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 255)
_PREFIX = "model_runtime"


class Metrics:
    """The metrics of one runtime, and the observer that fills them."""

    def __init__(self, host: Host, is_serving: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Predictions, by protocol and gRPC status.",
            ["protocol", "code"],
            registry=self.registry,
        )
        self._violations = Counter(
            f"{_PREFIX}_contract_violations",
            "Requests and answers that broke the contract.",
            ["side"],
            registry=self.registry,
        )
        seconds = Histogram(
            f"{_PREFIX}_prediction_seconds",
            "Where a prediction's time goes: waiting, in the model, decoding and encoding, in all.",
            ["part"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._queue_seconds, self._model_seconds, self._codec_seconds, self._seconds = (
            seconds.labels(part) for part in ("queue", "model", "codec", "all")
        )
        self._batch = Histogram(
            f"{_PREFIX}_batch_size", "Requests that shared a call of the model.", buckets=_SIZES, registry=self.registry
        )
        self._in_flight = Gauge(f"{_PREFIX}_in_flight", "Predictions that are being answered.", registry=self.registry)
        self._codes = {
            (path, code): self._requests.labels(protocol.name, code)
            for path, protocol in PROTOCOL_BY_PATH.items()
            for code in _CODES
        }
        self.registry.register(_Now(host, is_serving))

    def serve(self, port: int) -> None:
        """Answers /metrics on `port`, in a thread of its own. Raises PortUnavailable."""
        try:
            start_http_server(port, addr="::" if _has_ipv6() else "0.0.0.0", registry=self.registry)
        except OSError as error:
            raise PortUnavailable(f"port {port} for metrics cannot be bound: {error.strerror} (METRICS_PORT)") from None

    def begin(self, path: str, size: int, context: grpc.ServicerContext) -> End:
        started = time.perf_counter()
        self._in_flight.inc()

        def end(outcome: Outcome) -> None:
            self._in_flight.dec()
            self._count(path, outcome, time.perf_counter() - started)

        return end

    def _count(self, path: str, outcome: Outcome, seconds: float) -> None:
        if isinstance(outcome.result, PredictionError):
            self._count_error(path, outcome.result)
        else:
            self._codes[path, "OK"].inc()
        self._seconds.observe(seconds)
        if outcome.model_seconds:
            self._model_seconds.observe(outcome.model_seconds)
            self._codec_seconds.observe(outcome.codec_seconds)
            self._queue_seconds.observe(max(0.0, seconds - outcome.model_seconds - outcome.codec_seconds))
            self._batch.observe(outcome.batch)

    def _count_error(self, path: str, error: PredictionError) -> None:
        self._codes[path, codes.code(error).name].inc()
        if error.violations:
            self._violations.labels("answer" if isinstance(error, OutputMismatch) else "request").inc()


_CODES = ["OK", *sorted({status.name for status in codes.STATUS.values()})]


class _Now(Collector):
    """What is read when somebody asks: queue, processes, memory."""

    def __init__(self, host: Host, is_serving: Callable[[], bool]) -> None:
        self._host, self._is_serving = host, is_serving

    def collect(self) -> Iterator[Metric]:
        waiting = self._host.waiting()
        yield GaugeMetricFamily(f"{_PREFIX}_queue_length", "Predictions that the model has not begun.", waiting)
        yield GaugeMetricFamily(f"{_PREFIX}_serving", "Whether the model can answer now.", int(self._is_serving()))
        yield CounterMetricFamily(f"{_PREFIX}_process_restarts", "Model processes that ended.", self._host.restarts)
        memory = GaugeMetricFamily(f"{_PREFIX}_resident_bytes", "Resident memory of each process.", labels=["process"])
        memory.add_metric(["server"], _resident(os.getpid()))
        for number, pid in enumerate(self._host.pids()):
            memory.add_metric([f"model-{number}"], _resident(pid))
        yield memory


def _has_ipv6() -> bool:
    """Whether sockets of IPv6 can be bound; many nodes switch it off."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):  # it has just ended
        return 0.0
