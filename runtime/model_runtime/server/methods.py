"""The table of everything that one port answers: path to handler. Dispatch is by path alone, never by looking at bytes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from .. import protos
from ..contract import Contract, discovery
from ..errors import DeadlineExceeded, Overloaded, PredictionError
from ..prediction import Outcome
from ..supervisor.host import Cancellation
from ..tensors.eras import ERA_BY_PATH, ERAS
from . import codes
from .executors import PredictExecutor
from .health import Health
from .observers import Observer

log = logging.getLogger(__name__)

_NO_DEADLINE_SECONDS = 1e8  # grpcio reports a call without a deadline as one of some centuries

Handle = Callable[[str, bytes, "float | None", Cancellation], Outcome]
Behaviour = Callable[[bytes, grpc.ServicerContext], "bytes | None"]


class PredictHandlers(grpc.GenericRpcHandler):
    """Every Predict path, Status and the contract, over raw bytes. Refuses before any work begins when too much is waiting."""

    def __init__(
        self, predict: Callable[[str], Behaviour], contract: Contract, health: Health, executor: PredictExecutor
    ) -> None:
        self._executor = executor
        promise = discovery.write(contract)
        self._handlers = {
            discovery.PATH: _unary(lambda _request, _context: promise),
            **{era.predict: _unary(predict(era.predict)) for era in ERAS.values()},
        }
        for era in ERAS.values():
            if era.status:
                self._handlers[era.status] = _unary(lambda _request, _context: health.status_response())
        self._refusal = _unary(self._refuse)
        self._predict_paths = frozenset(ERA_BY_PATH)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        path = details.method
        if path in self._predict_paths and self._executor.full:
            return self._refusal
        return self._handlers.get(path)

    def _refuse(self, _request: bytes, context: grpc.ServicerContext) -> None:
        codes.abort(context, Overloaded(f"{self._executor.limit} predictions are waiting already (MAX_QUEUE)"))


def _unary(behaviour: Behaviour) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(behaviour)


class Gate:
    """How many bytes of requests may be on their way to the model at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.bytes = 0
        self.calls = 0

    def enter(self, size: int) -> None:
        """Raises Overloaded where that would be too many. A lone request always passes: its size has a limit of its own."""
        with self._lock:
            if self.calls and self.bytes + size > self._limit:
                raise Overloaded(f"{self.bytes} bytes of requests are waiting already (MAX_QUEUE_BYTES)")
            self.bytes += size
            self.calls += 1

    def leave(self, size: int) -> None:
        with self._lock:
            self.bytes -= size
            self.calls -= 1


class Predict:
    """Predict of one path: what gRPC calls in one of our threads, over what the host answers."""

    def __init__(
        self, path: str, handle: Handle, gate: Gate, observers: tuple[Observer, ...], pool: PredictExecutor
    ) -> None:
        self._path, self._handle, self._gate, self._observers = path, handle, gate, observers
        self.experimental_thread_pool = pool  # grpcio's own way to give a method a pool

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> bytes | None:
        endings = [observer.begin(self._path, len(request), context) for observer in self._observers]
        outcome = self._outcome(request, context)
        for end in endings:
            end(outcome)
        if isinstance(outcome.result, PredictionError):
            codes.abort(context, outcome.result)
            return None  # for the type checker: abort raises
        return outcome.result

    def _outcome(self, request: bytes, context: grpc.ServicerContext) -> Outcome:
        left = context.time_remaining()
        timeout = None if left is None or left > _NO_DEADLINE_SECONDS else left
        try:
            if timeout == 0:
                raise DeadlineExceeded("the deadline passed while the call was waiting")
            self._gate.enter(len(request))
            try:
                return self._handle(self._path, request, timeout, context.add_callback)
            finally:
                self._gate.leave(len(request))
        except PredictionError as error:
            return Outcome(error)
        except Exception:
            log.exception("internal error", extra={"method": self._path})
            return Outcome(PredictionError("internal error"))


def add_discovery(server: grpc.Server, health: Health) -> None:
    """Health and reflection. Reflection shows the true names of every era, from a pool of our own."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    services = [*(era.service for era in ERAS.values()), discovery.SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(services, server, pool=protos.reflection_pool())
