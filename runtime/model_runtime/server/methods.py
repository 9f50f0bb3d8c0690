"""The table of everything that one port answers: path to handler. Dispatch is by path alone, never by looking at bytes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from .. import protos
from ..contract import Contract, discovery
from ..errors import DeadlineExceeded, Overloaded, PredictionError
from ..supervisor.host import Cancellation
from ..tensors.eras import ERA_BY_PATH, ERAS
from . import codes
from .executors import PredictExecutor
from .health import Health

log = logging.getLogger(__name__)

_NO_DEADLINE_SECONDS = 1e8  # grpcio reports a call without a deadline as one of some centuries

Handle = Callable[[str, bytes, "float | None", Cancellation], bytes]


class PredictHandlers(grpc.GenericRpcHandler):
    """Every Predict path, Status and the contract, over raw bytes. Refuses before any work begins when too much is waiting."""

    def __init__(self, handle: Handle, contract: Contract, health: Health, executor: PredictExecutor) -> None:
        self._executor = executor
        promise = discovery.write(contract)
        self._handlers = {
            discovery.PATH: _unary(lambda _request, _context: promise),
            **{era.predict: _unary(_predict(handle, era.predict, executor)) for era in ERAS.values()},
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


def _unary(behaviour: Callable[[bytes, grpc.ServicerContext], bytes | None]) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(behaviour)


def _predict(handle: Handle, path: str, pool: PredictExecutor) -> Callable[[bytes, grpc.ServicerContext], bytes | None]:
    def predict(request: bytes, context: grpc.ServicerContext) -> bytes | None:
        left = context.time_remaining()
        timeout = None if left is None or left > _NO_DEADLINE_SECONDS else left
        try:
            if timeout == 0:
                raise DeadlineExceeded("the deadline passed while the call was waiting")
            return handle(path, request, timeout, context.add_callback)
        except PredictionError as error:
            codes.abort(context, error)
        except Exception:
            log.exception("internal error", extra={"method": path})
            context.abort(grpc.StatusCode.INTERNAL, "internal error")
        return None

    predict.experimental_thread_pool = pool  # type: ignore[attr-defined]  # grpcio's own way to give a method a pool
    return predict


def add_discovery(server: grpc.Server, health: Health) -> None:
    """Health and reflection. Reflection shows the true names of every era, from a pool of our own."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    services = [*(era.service for era in ERAS.values()), discovery.SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(services, server, pool=protos.reflection_pool())
