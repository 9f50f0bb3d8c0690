"""The table of everything that one port answers: path to handler. Dispatch is by path alone, never by looking at bytes."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from .. import protos
from ..contract import Contract, discovery
from ..errors import DeadlineExceeded, NotServing, Overloaded, PredictionError
from ..outcome import Outcome
from ..protocols import PROTOCOLS
from ..settings import Settings
from ..supervisor.host import Cancellation, Done
from . import control, infer_stream, open_inference, reflection, tensorflow_serving
from .engine import Asked, Behaviour, Departures, Places, Result, Streaming
from .health import Health
from .observers import End, Observer
from .statistics import Statistics

log = logging.getLogger(__name__)

STOPPING = "the runtime is stopping"
MAX_ARRIVALS = 1000  # calls whose message has not come: of predictions MAX_QUEUE where that is more, and of all others
MAX_WATCHES = 10_000
MAX_REFLECTIONS = 2_000
MAX_INFERENCES = 1_000  # streams of predictions
_NO_DEADLINE_SECONDS = 1e8  # grpcio reports a call without a deadline as one of some centuries

Submit = Callable[[str, bytes, "float | None", Cancellation, Done], None]


class Handlers(grpc.GenericRpcHandler):
    """Every path of the port: predictions, the questions of the protocols, the contract, health and reflection. Raw bytes all."""

    def __init__(self, handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]) -> None:
        self._handlers = handlers

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        return self._handlers.get(details.method)


class Bounds:
    """The places of calls that are open without being predictions on their way."""

    def __init__(self, settings: Settings) -> None:
        self.predictions = Places(max(MAX_ARRIVALS, settings.max_queue), "wait for their messages")
        self.control = Places(MAX_ARRIVALS, "wait for their messages")
        self.watches = Places(MAX_WATCHES, "watch the health")
        self.reflections = Places(MAX_REFLECTIONS, "ask for reflection")
        self.inferences = Places(MAX_INFERENCES, "are streams of predictions")

    @property
    def arriving(self) -> tuple[Places, Places]:
        return self.predictions, self.control

    @property
    def streams(self) -> tuple[Places, ...]:
        return self.watches, self.reflections, self.inferences


def handlers(
    predict: Callable[[str], Asked],
    contract: Contract,
    health: Health,
    executor: ThreadPoolExecutor,
    control_executor: ThreadPoolExecutor,
    bounds: Bounds,
    statistics: Statistics,
) -> Handlers:
    """The table: path to handler."""
    table = {
        path: _unary(Behaviour(control.Plain(answer), control_executor, bounds.control))
        for path, answer in _answers(contract, health, statistics).items()
    }
    for protocol in PROTOCOLS.values():
        table[protocol.path] = _unary(Behaviour(predict(protocol.path), executor, bounds.predictions))
    infer = predict(PROTOCOLS["open-inference"].path)
    stream = Streaming(
        lambda opened: infer_stream.Inferring(opened, infer), executor, bounds.predictions, bounds.inferences
    )
    table[infer_stream.PATH] = grpc.stream_stream_rpc_method_handler(stream)
    watch = Streaming(lambda stream: control.Watcher(stream, health), control_executor, bounds.control, bounds.watches)
    table[control.WATCH] = grpc.unary_stream_rpc_method_handler(watch)
    reflect = Streaming(
        lambda stream: control.Reflecting(stream, _reflection()), control_executor, bounds.control, bounds.reflections
    )
    for service in reflection.SERVICES:
        table[f"/{service}/{reflection.METHOD}"] = grpc.stream_stream_rpc_method_handler(reflect)
    return Handlers(table)


def _answers(contract: Contract, health: Health, statistics: Statistics) -> dict[str, control.Answer]:
    """What is answered from memory."""
    promise = discovery.write(contract)
    answers: dict[str, control.Answer] = {
        discovery.PATH: lambda _request: promise,
        control.CHECK: control.check(health),
        control.LIST: control.statuses(health),
        **open_inference.answers(contract, health, statistics),
        **tensorflow_serving.answers(contract, health),
    }
    for protocol in PROTOCOLS.values():
        if protocol.status:
            answers[protocol.status] = lambda _request: health.status_response()
    return answers


@functools.lru_cache(maxsize=1)
def _reflection() -> reflection.Reflection:
    """Made when it is first asked for: the protos take a while to read."""
    return reflection.Reflection(protos.reflection_files())


def _unary(behaviour: Behaviour) -> grpc.RpcMethodHandler[bytes, bytes]:
    return grpc.unary_unary_rpc_method_handler(behaviour)


class Gate:
    """How many predictions, and how many bytes of requests and answers, may be on their way at a time."""

    def __init__(self, calls: int, size: int, departures: Departures | None = None) -> None:
        self._most_calls, self._most_bytes = calls, size
        self._departures = departures or Departures()
        self._lock = threading.Lock()
        self._is_open = True
        self.bytes = 0
        self.calls = 0

    def close(self) -> None:
        """From now on nothing enters: the runtime is stopping."""
        self._is_open = False

    def enter(self, size: int) -> None:
        """Raises Overloaded where that would be too many. A lone request always passes: its size has a limit of its own."""
        self._make_room(size)
        with self._lock:
            self._check(size)
            self.bytes += size
            self.calls += 1

    def check(self, size: int) -> None:
        """Raises what `enter` would."""
        self._make_room(size)
        with self._lock:
            self._check(size)

    def _make_room(self, size: int) -> None:
        """Answers that are not taken give way to requests."""
        departing = self._departures.bytes
        if departing and (over := self.bytes + departing + size - self._most_bytes) > 0:
            self._departures.drive_out(over)

    def _check(self, size: int) -> None:
        if not self._is_open:
            raise NotServing(STOPPING)
        if self.calls >= self._most_calls:
            raise Overloaded(f"{self.calls} predictions are on their way already (MAX_QUEUE)")
        taken = self.bytes + self._departures.bytes
        if taken and taken + size > self._most_bytes:
            raise Overloaded(f"{taken} bytes of requests and answers are on their way already (MAX_QUEUE_BYTES)")

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
        ending = _Ending([observer.begin(self._path, size, context) for observer in self._observers], done)
        left = context.time_remaining()
        timeout = None if left is None or left > _NO_DEADLINE_SECONDS else left
        try:
            if timeout == 0:
                raise DeadlineExceeded("the deadline passed while the call was waiting")
            self._gate.enter(size)
        except PredictionError as error:
            ending(Outcome(error))
            return
        ending.leave = functools.partial(self._gate.leave, size)
        try:
            self._submit(self._path, request, timeout, context.add_callback, ending)
        except BaseException:  # whatever the host ran into: the place is given back and the caller hears
            log.exception("a call ended in an internal error", extra={"method": self._path})
            ending(Outcome(PredictionError("internal error")))


class _Ending:
    """The end of one prediction: whatever happens, it comes once, gives back its place, and answers the caller."""

    __slots__ = ("_done", "_first", "_observers", "leave")

    def __init__(self, observers: list[End], done: Callable[[Result], None]) -> None:
        self._observers, self._done = observers, done
        self._first = threading.Lock()
        self.leave: Callable[[], None] | None = None

    def __call__(self, outcome: Outcome) -> None:
        if not self._first.acquire(blocking=False):
            return
        if self.leave is not None:
            self.leave()
        for observe in self._observers:
            try:
                observe(outcome)
            except BaseException:  # a count that fails must not cost the answer
                log.exception("an observer failed")
        self._done(outcome.result)
