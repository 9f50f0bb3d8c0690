"""The control plane on the wire: health, reflection, Status, the contract, and what the Open Inference Protocol asks besides.

None of it waits, holds a lock while it sends, or has a thread: it is answered in grpcio's polling thread, from memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc

from .. import wire
from ..errors import InvalidRequest, PredictionError, UnknownService
from . import health
from .engine import Done, Result, Stream
from .health import Health, Status, Subscription
from .reflection import Reflection

CHECK, LIST, WATCH = (f"/{health.SERVICE}/{method}" for method in ("Check", "List", "Watch"))

Answer = Callable[[bytes], Result]


class Plain:
    """Answers a unary call by a plain function of the request's bytes, which may raise wire.WireError."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __call__(self, request: bytes, context: grpc.ServicerContext, done: Done) -> None:
        try:
            done(self._answer(request))
        except wire.WireError as error:
            done(InvalidRequest(f"the request is no message: {error}"))


def check(state: Health) -> Answer:
    def answer(request: bytes) -> Result:
        name = _service(request)
        status = state.check(name)
        return UnknownService("no service of that name is served here") if status is None else response(status)

    return answer


def statuses(state: Health) -> Answer:
    """Health's List: HealthListResponse {1: map<string, HealthCheckResponse>}."""

    def answer(_request: bytes) -> bytes:
        entries = (
            wire.length_field(1, name.encode()) + wire.length_field(2, response(status))
            for name, status in state.statuses().items()
        )
        return b"".join(wire.length_field(1, entry) for entry in entries)

    return answer


class Watcher:
    """Answers one Watch: the status now, and again after each change. Sends one at a time and skips what nobody waited for.

    A watcher that does not read costs its one message, and delays nobody.
    """

    is_busy = False

    def __init__(self, stream: Stream, state: Health) -> None:
        self._stream, self._state = stream, state
        self._lock = threading.Lock()  # of what follows; never held while something is sent
        self._subscription: Subscription | None = None
        self._sent: Status | None = None
        self._is_sending = False

    def received(self, message: bytes) -> None:
        try:
            name = _service(message)
        except wire.WireError as error:
            self._stream.end(InvalidRequest(f"the request is no message: {error}"))
            return
        if self._state.check(name) is None:  # which no change will ever make known
            self._stream.send(response(Status.SERVICE_UNKNOWN))
            return
        self._subscription = self._state.watch(name, self._tell)
        self._tell()

    def finished(self) -> None:
        self._stream.end(InvalidRequest("exactly one request message is expected, none came"))

    def sent(self) -> None:
        with self._lock:
            self._is_sending = False
        self._tell()

    def expire(self, error: PredictionError) -> None:
        self._stream.end(error)

    def closed(self) -> None:
        if self._subscription is not None:
            self._subscription.close()

    def _tell(self) -> None:
        if self._subscription is None:
            return
        with self._lock:
            status = self._subscription.status
            if self._is_sending or status is self._sent:
                return
            self._sent, self._is_sending = status, True
        self._stream.send(response(status))


class Reflecting:
    """Answers one stream of reflection: a question, its answer, the next question."""

    is_busy = False

    def __init__(self, stream: Stream, reflection: Reflection) -> None:
        self._stream, self._reflection = stream, reflection

    def received(self, message: bytes) -> None:
        try:
            self._stream.send(self._reflection.answer(message))
        except wire.WireError as error:
            self._stream.end(InvalidRequest(f"the request is no ServerReflectionRequest: {error}"))

    def finished(self) -> None:
        self._stream.end()

    def sent(self) -> None:
        self._stream.receive()

    def expire(self, error: PredictionError) -> None:
        self._stream.end(error)

    def closed(self) -> None:
        """Nothing is kept for a stream."""


def _service(request: bytes) -> str:
    """Of HealthCheckRequest {1: service}."""
    name = ""
    for number, kind, start, end in wire.fields(request):
        if (number, kind) == (1, wire.LENGTH):
            name = wire.read_text(request, start, end)
    return name


def response(status: Status) -> bytes:
    """HealthCheckResponse {1: status}."""
    return wire.varint_field(1, status) if status else b""
