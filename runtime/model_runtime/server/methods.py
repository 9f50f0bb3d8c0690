"""The table of everything that one port answers: path to handler. Dispatch is by path alone, never by looking at bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection

from .. import protos, wire
from ..contract import Contract, discovery
from ..errors import DeadlineExceeded, InvalidRequest, Overloaded, PredictionError
from ..outcome import Outcome
from ..protocols import PROTOCOLS
from ..supervisor.host import Cancellation, Done
from . import codes, open_inference
from .engine import Result
from .health import Health
from .observers import Observer

_NO_DEADLINE_SECONDS = 1e8  # grpcio reports a call without a deadline as one of some centuries

Submit = Callable[[str, bytes, "float | None", Cancellation, Done], None]
Behaviour = Callable[[bytes, grpc.ServicerContext], "bytes | None"]


class PredictHandlers(grpc.GenericRpcHandler):
    """Every path that predicts, the questions of the protocols beside, and the contract, over raw bytes."""

    def __init__(self, predict: Callable[[str], Behaviour], contract: Contract, health: Health) -> None:
        promise = discovery.write(contract)
        answers = {discovery.PATH: lambda _request: promise, **open_inference.answers(contract, health)}
        for protocol in PROTOCOLS.values():
            if protocol.status:
                answers[protocol.status] = lambda _request: health.status_response()
        self._handlers = {
            **{path: _unary(_answering(answer)) for path, answer in answers.items()},
            **{protocol.path: _unary(predict(protocol.path)) for protocol in PROTOCOLS.values()},
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(details.method)


def _answering(answer: Callable[[bytes], bytes]) -> Behaviour:
    """A behaviour out of a plain function of the request's bytes."""

    def behaviour(request: bytes, context: grpc.ServicerContext) -> bytes | None:
        try:
            return answer(request)
        except wire.WireError as error:
            codes.refuse(context, InvalidRequest(f"the request is no message: {error}"))
            return None

    return behaviour


def _unary(behaviour: Behaviour) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(behaviour)


class Gate:
    """How many predictions, and how many bytes of requests, may be on their way at a time."""

    def __init__(self, calls: int, size: int) -> None:
        self._most_calls, self._most_bytes = calls, size
        self._lock = threading.Lock()
        self.bytes = 0
        self.calls = 0

    def enter(self, size: int) -> None:
        """Raises Overloaded where that would be too many. A lone request always passes: its size has a limit of its own."""
        with self._lock:
            if self.calls >= self._most_calls:
                raise Overloaded(f"{self.calls} predictions are on their way already (MAX_QUEUE)")
            if self.calls and self.bytes + size > self._most_bytes:
                raise Overloaded(f"{self.bytes} bytes of requests are on their way already (MAX_QUEUE_BYTES)")
            self.bytes += size
            self.calls += 1

    def leave(self, size: int) -> None:
        with self._lock:
            self.bytes -= size
            self.calls -= 1


class Predict:
    """Predict of one path: what the engine asks, over what the host answers."""

    def __init__(self, path: str, submit: Submit, gate: Gate, observers: tuple[Observer, ...]) -> None:
        self._path, self._submit, self._gate, self._observers = path, submit, gate, observers

    def __call__(self, request: bytes, context: grpc.ServicerContext, done: Callable[[Result], None]) -> None:
        size = len(request)
        endings = [observer.begin(self._path, size, context) for observer in self._observers]

        def end(outcome: Outcome) -> None:
            for ending in endings:
                ending(outcome)
            done(outcome.result)

        def leave(outcome: Outcome) -> None:
            self._gate.leave(size)
            end(outcome)

        left = context.time_remaining()
        timeout = None if left is None or left > _NO_DEADLINE_SECONDS else left
        try:
            if timeout == 0:
                raise DeadlineExceeded("the deadline passed while the call was waiting")
            self._gate.enter(size)
        except PredictionError as error:
            end(Outcome(error))
        else:
            self._submit(self._path, request, timeout, context.add_callback, leave)


def add_discovery(server: grpc.Server, health: Health) -> None:
    """Health and reflection. Reflection shows the true names of every era, from a pool of our own."""
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    services = [
        *(protocol.service for protocol in PROTOCOLS.values()),
        discovery.SERVICE,
        HEALTH_SERVICE,
        reflection.SERVICE_NAME,
    ]
    reflection.enable_server_reflection(services, server, pool=protos.reflection_pool())
