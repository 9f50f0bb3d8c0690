"""How calls get from grpcio to whatever answers them, and back, without a thread each.

grpcio's server gives each call a thread, which then only waits: for the message, and for the model. `Direct` takes the calls in
grpcio's polling thread instead, hands each on when its message is there, and answers from whichever thread brings the outcome.
Streams have no thread either. It stands on parts of grpcio that are not public (`grpc._server`); where a release has made them
otherwise, `executor` logs that and falls back on a thread per unary call, which costs more and answers the same. There are no
streams then.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Protocol

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from ..errors import Overloaded, PredictionError, UnknownMethod
from . import codes, inflation

log = logging.getLogger(__name__)

FALLBACK_THREADS = 64  # as many calls as may share one of the model by default
_PARTS = {  # of grpc._server, and their parameters
    "_unary_response_in_pool": "rpc_event state behavior argument_thunk request_deserializer response_serializer",
    "_stream_response_in_pool": "rpc_event state behavior argument_thunk request_deserializer response_serializer",
    "_receive_message": "state call request_deserializer",
    "_send_message": "state token",
    "_status": "rpc_event state serialized_response",
    "_is_rpc_state_active": "state",
    "_Context": "rpc_event state request_deserializer",
    "_RECEIVE_MESSAGE_TOKEN": "",
    "_SEND_MESSAGE_TOKEN": "",
    "_CLOSED": "",
}
_NO_FLAGS = 0
LARGE_BYTES = 1 << 16  # a window's worth: less leaves at once
HANGING_SECONDS = 1.0  # after which an answer that is not taken gives way where bytes are short
END_SECONDS = 5.0  # after which a call that has ended, and whose client does not read even that, is cancelled

Result = bytes | PredictionError
Done = Callable[[Result], None]


class Asked(Protocol):
    """Answers a unary call: `done` is told the result, once, from any thread, perhaps before this returns. Never blocks."""

    def __call__(self, request: bytes, context: grpc.ServicerContext, done: Done) -> None: ...


class Stream(Protocol):
    """An open stream, as its receiver sees it. No method blocks."""

    context: Any  # a grpc.ServicerContext

    def receive(self) -> None:
        """Asks for the next message. At most one is asked for at a time."""

    def send(self, message: bytes) -> None:
        """Sends a message; `sent` of the receiver is called when the next may be. At most one is on its way at a time."""

    def hold(self, size: int) -> None:
        """Counts so many bytes of answers that the client has not taken, in place of those that were counted before."""

    def end(self, error: PredictionError | None = None) -> None:
        """Ends the stream with the error's status, or OK."""


class Receiver(Protocol):
    """What answers one stream. Its methods are called in grpcio's polling thread and must not block."""

    @property
    def is_busy(self) -> bool:
        """Whether a stop should wait for it."""
        ...

    def received(self, message: bytes) -> None: ...

    def finished(self) -> None:
        """The client sends no more."""

    def sent(self) -> None: ...

    def expire(self, error: PredictionError) -> None:
        """The stream should end with this error, as soon as that loses nothing. From any thread."""

    def closed(self) -> None:
        """The stream is over, however it ended."""


# Bounds -----------------------------------------------------------------------------------------------------------


class Places:
    """A bounded number of calls in one state, such as those whose message has not arrived. Costs no thread.

    One that is too many takes the place of the oldest, which is refused: honest calls are soon through, so a flood of calls
    that go nowhere drives out itself.
    """

    def __init__(self, most: int, state: str) -> None:
        self._most, self._name = most, state
        self._calls: dict[_Call, None] = {}  # oldest first; changed in grpcio's polling thread only

    def add(self, call: _Call) -> None:
        if len(self._calls) >= self._most:
            oldest = next(iter(self._calls))
            del self._calls[oldest]
            oldest.answer(Overloaded(f"more than {self._most} calls {self._name}"))
        self._calls[call] = None

    def discard(self, call: _Call) -> None:
        self._calls.pop(call, None)

    def refuse(self, error: PredictionError, *, before: float = float("inf")) -> None:
        """Ends those that have been here since `before`, a time of the monotonic clock. From any thread."""
        for call in list(self._calls):
            if call.since < before:
                call.expire(error)

    def __len__(self) -> int:
        return len(self._calls)


class Departures:
    """The answers that their callers have not taken yet, and their bytes: what is being written belongs to the limit too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: dict[_Call, int] = {}  # oldest first
        self.bytes = 0

    def add(self, call: _Call, size: int) -> None:
        with self._lock:
            self._sizes[call] = size
            self.bytes += size

    def discard(self, call: _Call) -> None:
        with self._lock:
            self.bytes -= self._sizes.pop(call, 0)

    def __contains__(self, call: _Call) -> bool:
        return call in self._sizes

    def drive_out(self, size: int) -> None:
        """Cancels those that hang longest, until so many bytes will be free."""
        before = time.monotonic() - HANGING_SECONDS
        with self._lock:
            hanging = [(call, taken) for call, taken in self._sizes.items() if call.ended < before]
        for call, taken in hanging:
            if size <= 0:
                return
            size -= taken
            self.discard(call)
            call.cancel()


# What grpcio is given ---------------------------------------------------------------------------------------------


class Behaviour:
    """A unary method of a gRPC service, answered by `asked`."""

    def __init__(self, asked: Asked, executor: ThreadPoolExecutor, arrivals: Places) -> None:
        self.asked, self.arrivals = asked, arrivals
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

    def begin(self, event: Any, state: Any) -> None:
        _Unary(event, state, self).receive_first()


class Streaming:
    """A streaming method of a gRPC service: `opened` makes what answers one stream."""

    def __init__(
        self, opened: Callable[[Stream], Receiver], executor: ThreadPoolExecutor, arrivals: Places, streams: Places
    ) -> None:
        self.opened, self.arrivals, self.streams = opened, arrivals, streams
        self.experimental_thread_pool = executor

    def __call__(self, _request: object, context: grpc.ServicerContext) -> Iterable[bytes]:
        """Where `Direct` cannot serve. Clients that watch health take UNIMPLEMENTED for healthy."""
        codes.refuse(context, UnknownMethod("streams are not available with this version of grpcio"))
        return ()

    def begin(self, event: Any, state: Any) -> None:
        stream = _Stream(event, state, self)
        self.streams.add(stream)
        stream.receive_first()


def executor() -> ThreadPoolExecutor:
    """What runs calls: `Direct`, or threads where this grpcio is not made as `Direct` expects."""
    unknown = [name for name, parameters in _PARTS.items() if _parameters(name) != parameters]
    if not unknown:
        return Direct()
    log.warning(
        "each prediction takes a thread: this grpcio is not known to the faster engine",
        extra={"grpcio": grpc.__version__, "unknown": unknown},
    )
    return ThreadPoolExecutor(FALLBACK_THREADS, thread_name_prefix="predict")


def control_executor(predictions: ThreadPoolExecutor) -> ThreadPoolExecutor:
    """What runs everything but predictions: the same `Direct`, or threads of its own, which predictions cannot take up."""
    if isinstance(predictions, Direct):
        return predictions
    return ThreadPoolExecutor(FALLBACK_THREADS, thread_name_prefix="control")


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
        self.departures = Departures()
        self.inflater: inflation.Inflater | None = None
        self.open: dict[_Call, None] = {}  # every call that has not ended; changed in the polling thread only

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Takes what `grpc._server._handle_unary_unary` and its like submit: context.run, a function, event, state, behaviour."""
        _function, event, state, behaviour, *_rest = args
        try:
            behaviour.begin(event, state)
        except BaseException:  # the polling thread serves everybody
            log.exception("a call could not begin")
            event.call.cancel()
        return _BEGUN

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self.inflater is not None:
            self.inflater.stop()
        super().shutdown(wait, cancel_futures=cancel_futures)

    def sweep(self, timeout: float) -> None:
        """Cancels what has ended and is not read: large answers after `timeout` seconds (0: never), the rest soon."""
        now = time.monotonic()
        for call in list(self.open):
            patience = timeout if call in self.departures else END_SECONDS
            if patience and call.ended < now - patience:
                call.cancel()

    def busy_ports(self, before: float) -> set[int]:
        """The clients' ports of the calls that began before then, have not ended, and still have an answer to come."""
        calls = [call for call in list(self.open) if call.since < before and call.is_busy]
        peers = [call.context.peer() for call in calls]
        return {int(port) for peer in peers if (port := peer.rpartition(":")[2]).isdecimal()}

    def end_all(self, error: PredictionError) -> None:
        """Answers every open call with the error."""
        for call in list(self.open):
            call.answer(error)


# One call ---------------------------------------------------------------------------------------------------------


class _Call:
    """One call, from its arrival to its end. Every step runs under grpcio's own rules: `state.condition` guards the state."""

    __slots__ = ("_arrivals", "_engine", "_event", "_received", "_state", "context", "ended", "since")

    def __init__(self, event: Any, state: Any, behaviour: Behaviour | Streaming) -> None:
        self._event, self._state, self._arrivals = event, state, behaviour.arrivals
        self._received = _server._receive_message(state, event.call, None)
        self._engine: Direct = behaviour.experimental_thread_pool  # type: ignore[assignment]
        self.context = _server._Context(event, state, None)
        self.since = time.monotonic()
        self.ended = float("inf")  # when it was answered

    def receive_first(self) -> None:
        """Asks for the first message, which takes a place among the arriving ones. grpcio holds `state.condition` here."""
        self._engine.open[self] = None
        self.context.add_callback(self._over)
        self._arrivals.add(self)
        self._ask_for_message()

    def _ask_for_message(self) -> None:
        self._event.call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._take)
        self._state.due.add(_server._RECEIVE_MESSAGE_TOKEN)

    def _take(self, event: Any) -> Any:
        """The message is there, or there is none, or the caller is gone."""
        finished = self._received(event)
        self._arrivals.discard(self)
        request, self._state.request = self._state.request, None
        try:
            if request is not None:
                self._inflate(request) if inflation.is_compressed(request) else self._arrived(request)
            elif self._state.client is _server._CLOSED:
                self._finished()
        except BaseException:  # noqa: BLE001  # the polling thread serves everybody
            self._fail()
        return finished

    def _inflate(self, request: bytes) -> None:
        inflated = inflation.at_once(request)
        if inflated is None:
            self._inflate_later(request)
        else:
            self._go_on(inflated)

    def _inflate_later(self, request: bytes) -> None:
        """A stream has no message of that size."""
        self.answer(Overloaded(f"the message inflates to more than {inflation.AT_ONCE_BYTES} bytes"))

    def _go_on(self, inflated: bytes | PredictionError) -> None:
        if isinstance(inflated, PredictionError):
            self.answer(inflated)
        else:
            self._arrived(inflated)

    def _arrived(self, request: bytes) -> None:
        raise NotImplementedError

    def _finished(self) -> None:
        raise NotImplementedError

    def _over(self) -> None:
        """The call has ended: called by grpcio once nothing is due any more."""
        self._arrivals.discard(self)
        self._engine.open.pop(self, None)
        self._engine.departures.discard(self)

    def _fail(self) -> None:
        log.exception("a call ended in an internal error")
        self.answer(PredictionError("internal error"))

    def answer(self, result: Result | None) -> None:
        """Ends the call with a message, an error, or OK alone. Does nothing for a call that has ended."""
        state = self._state
        with state.condition:
            if not _server._is_rpc_state_active(state):  # answered, or the caller is gone
                return
            if isinstance(result, PredictionError):
                codes.refuse(self.context, result)
                result = None
            elif result is not None and len(result) > LARGE_BYTES:
                self._engine.departures.add(self, len(result))
            self.ended = time.monotonic()
            _server._status(self._event, state, result)

    @property
    def is_busy(self) -> bool:
        return True

    def expire(self, error: PredictionError) -> None:
        """Ends the call with the error; a stream first answers what it was asked."""
        self.answer(error)

    def cancel(self) -> None:
        """Ends the call at once, whatever its caller does. (It may hear CANCELLED: for those that do not read alone.)"""
        self._event.call.cancel()


class _Unary(_Call):
    __slots__ = ("_asked",)

    def __init__(self, event: Any, state: Any, behaviour: Behaviour) -> None:
        super().__init__(event, state, behaviour)
        self._asked = behaviour.asked

    def _inflate_later(self, request: bytes) -> None:
        try:
            assert self._engine.inflater is not None
            self._engine.inflater.submit(request, self._go_on_safely)
        except Overloaded as error:
            self.answer(error)

    def _go_on_safely(self, inflated: bytes | PredictionError) -> None:
        try:
            self._go_on(inflated)
        except BaseException:  # noqa: BLE001  # as in the polling thread
            self._fail()

    def _arrived(self, request: bytes) -> None:
        self._asked(request, self.context, self.answer)

    def _finished(self) -> None:
        self.answer(UnknownMethod("exactly one request message is expected, none came"))


class _Stream(_Call):
    """A stream with its receiver. `since` is when it began."""

    __slots__ = ("_receiver", "_streams")

    def __init__(self, event: Any, state: Any, behaviour: Streaming) -> None:
        super().__init__(event, state, behaviour)
        self._streams = behaviour.streams
        self._receiver = behaviour.opened(self)

    def receive(self) -> None:
        with self._state.condition:
            if _server._is_rpc_state_active(self._state):
                self._ask_for_message()

    def send(self, message: bytes) -> None:
        state = self._state
        with state.condition:
            if not _server._is_rpc_state_active(state):
                return
            if state.initial_metadata_allowed:
                self.context.send_initial_metadata(())
            self._event.call.start_server_batch(
                (cygrpc.SendMessageOperation(message, _NO_FLAGS),),
                functools.partial(self._sent, _server._send_message(state, _server._SEND_MESSAGE_TOKEN)),
            )
            state.due.add(_server._SEND_MESSAGE_TOKEN)

    def hold(self, size: int) -> None:
        with self._state.condition:
            if not _server._is_rpc_state_active(self._state):
                return
            self._engine.departures.discard(self)
            if size > LARGE_BYTES:
                self._engine.departures.add(self, size)
            self.ended = time.monotonic() if size > LARGE_BYTES else float("inf")

    def end(self, error: PredictionError | None = None) -> None:
        self.answer(error)

    @property
    def is_busy(self) -> bool:
        return self._receiver.is_busy

    def expire(self, error: PredictionError) -> None:
        self._receiver.expire(error)

    def _sent(self, send_message: Callable[[Any], Any], event: Any) -> Any:
        finished = send_message(event)
        try:
            self._receiver.sent()
        except BaseException:  # noqa: BLE001  # the polling thread serves everybody
            self._fail()
        return finished

    def _arrived(self, request: bytes) -> None:
        self._receiver.received(request)

    def _finished(self) -> None:
        self._receiver.finished()

    def _over(self) -> None:
        super()._over()
        self._streams.discard(self)
        self._receiver.closed()
