"""How a prediction gets from grpcio to the model and back without a thread of its own.

grpcio's server gives each call a thread, which then only waits: for the message, and for the model. `Direct` takes the calls in
grpcio's polling thread instead, hands each to the model when its message is there, and answers from whichever thread brings the
outcome. It stands on parts of grpcio that are not public (`grpc._server`); where a release has made them otherwise, `executor`
says so and falls back on a thread a call, which costs more and answers the same.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ..errors import PredictionError
from . import codes

log = logging.getLogger(__name__)

FALLBACK_THREADS = 64  # as many calls as may share one of the model by default
_PARTS = {  # of grpc._server, and their parameters
    "_unary_response_in_pool": "rpc_event state behavior argument_thunk request_deserializer response_serializer",
    "_receive_message": "state call request_deserializer",
    "_status": "rpc_event state serialized_response",
    "_abort": "state call code details",
    "_is_rpc_state_active": "state",
    "_Context": "rpc_event state request_deserializer",
    "_RECEIVE_MESSAGE_TOKEN": "",
    "_CLOSED": "",
}
_NO_FLAGS = 0

Result = bytes | PredictionError
Done = Callable[[Result], None]


class Asked(Protocol):
    """What answers predictions: `done` is told the result, once, from any thread, perhaps before this returns. Never blocks."""

    def __call__(self, request: bytes, context: grpc.ServicerContext, done: Done) -> None: ...


class Behaviour:
    """A unary method of a gRPC service, answered by `asked`."""

    def __init__(self, asked: Asked, executor: ThreadPoolExecutor) -> None:
        self.asked = asked
        self.experimental_thread_pool = executor  # grpcio's own way to give a method a pool

    def __call__(self, request: bytes, context: grpc.ServicerContext) -> bytes | None:
        """In a thread of the call, which waits: what serves where `Direct` cannot."""
        answer: SimpleQueue[Result] = SimpleQueue()
        self.asked(request, context, answer.put)
        result = answer.get()
        if isinstance(result, bytes):
            return result
        codes.refuse(context, result)
        return b""


def executor() -> ThreadPoolExecutor:
    """What runs predictions: `Direct`, or threads where this grpcio is not made as `Direct` expects."""
    unknown = [name for name, parameters in _PARTS.items() if _parameters(name) != parameters]
    if not unknown:
        return Direct()
    log.warning(
        "each prediction takes a thread: this grpcio is not known to the faster engine",
        extra={"grpcio": grpc.__version__, "unknown": unknown},
    )
    return ThreadPoolExecutor(FALLBACK_THREADS, thread_name_prefix="predict")


def _parameters(name: str) -> str | None:
    part = getattr(_server, name, None)
    return " ".join(inspect.signature(part).parameters) if callable(part) else None if part is None else ""


class _Begun(Future[Any]):
    """What grpcio asks of a call that it has given away: that it may forget its thread."""

    def add_done_callback(self, callback: Callable[[Future[Any]], object]) -> None:
        callback(self)


_BEGUN = _Begun()


class Direct(ThreadPoolExecutor):
    """Runs each call at once in the thread that submits it: grpcio's polling thread, which must never wait.

    A ThreadPoolExecutor only by name, which grpcio insists on: it never has a thread.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Takes what `grpc._server._handle_unary_unary` submits: context.run, the function, the event, state and behaviour."""
        _function, event, state, behaviour, *_rest = args
        _Call(event, state, behaviour.asked).receive()
        return _BEGUN


class _Call:
    """One call, from its arrival to its answer. Every step runs under grpcio's own rules: `state.condition` guards the state."""

    __slots__ = ("_asked", "_event", "_received", "_state")

    def __init__(self, event: Any, state: Any, asked: Asked) -> None:
        self._event, self._state, self._asked = event, state, asked
        self._received = _server._receive_message(state, event.call, None)

    def receive(self) -> None:
        """Asks for the message. grpcio holds `state.condition` here."""
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._take)
        self._state.due.add(_server._RECEIVE_MESSAGE_TOKEN)

    def _take(self, event: Any) -> Any:
        """The message is there, or the caller is gone."""
        state = self._state
        finished = self._received(event)
        request, state.request = state.request, None
        if request is not None:
            self._ask(request)
        elif state.client is _server._CLOSED:
            with state.condition:
                if _server._is_rpc_state_active(state):
                    code = cygrpc.StatusCode.unimplemented
                    _server._abort(state, self._event.call, code, b"exactly one request message is expected, none came")
        return finished

    def _ask(self, request: bytes) -> None:
        context = _server._Context(self._event, self._state, None)
        try:
            self._asked(request, context, functools.partial(self._answer, context))
        except Exception:
            log.exception("a call ended in an internal error")
            self._answer(context, PredictionError("internal error"))

    def _answer(self, context: grpc.ServicerContext, result: Result) -> None:
        state = self._state
        with state.condition:
            if not _server._is_rpc_state_active(state):  # the caller is gone
                return
            if isinstance(result, PredictionError):
                codes.refuse(context, result)
                _server._status(self._event, state, None)
            else:
                _server._status(self._event, state, result)
