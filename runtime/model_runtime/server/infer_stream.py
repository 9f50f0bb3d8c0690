"""ModelStreamInfer of the Open Inference Protocol: requests on a stream, each answered as ModelInfer answers it, in their order.

A request that fails costs its own answer an error, never the stream. A stream has no thread, and a bounded number of requests on
their way; where its client does not read, no more are taken.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import grpc

from .. import wire
from ..errors import PredictionError
from ..protocols import OPEN_INFERENCE
from . import codes
from .engine import Asked, Result, Stream

PATH = f"/{OPEN_INFERENCE}/ModelStreamInfer"
MAX_IN_FLIGHT = 8  # requests of one stream whose answers have not been sent
_HEAD_FIELDS = 8  # in which a request's id is looked for: it stands before the tensors


class Turn:
    """One request of a stream. To whoever answers it, it is the context of a call."""

    def __init__(self, stream: Stream, request: bytes, done: Callable[[], None]) -> None:
        self._context: grpc.ServicerContext = stream.context
        self._done = done
        self._id = _request_id(request)
        self._cancels: list[Callable[[], None]] = []
        self._is_cancelled = False
        self.answer: bytes | None = None

    def time_remaining(self) -> float | None:
        return self._context.time_remaining()

    def invocation_metadata(self) -> object:
        return self._context.invocation_metadata()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._cancels.append(callback)
        return not self._is_cancelled

    def cancel(self) -> None:
        """The stream is over."""
        self._is_cancelled = True
        for cancel in self._cancels:
            cancel()

    def end(self, result: Result) -> None:
        self.answer = _answer(result, self._id)
        self._done()


class Inferring:
    """Answers one stream."""

    def __init__(self, stream: Stream, predict: Asked) -> None:
        self._stream, self._predict = stream, predict
        self._lock = threading.Lock()  # of what follows; never held while something is sent or asked
        self._turns: deque[Turn] = deque()  # in the order of their requests
        self._is_sending = False
        self._sending = 0  # bytes
        self._is_waiting = False  # no further request has been asked for
        self._farewell: PredictionError | None = None
        self._is_ending = False  # nothing more is taken

    @property
    def is_busy(self) -> bool:
        return bool(self._turns) or self._is_sending

    def received(self, message: bytes) -> None:
        turn = Turn(self._stream, message, self._go_on)
        with self._lock:
            self._turns.append(turn)
            more = len(self._turns) < MAX_IN_FLIGHT and not self._is_ending
            self._is_waiting = not more
        if more:
            self._stream.receive()
        self._predict(message, turn, turn.end)  # type: ignore[arg-type]

    def finished(self) -> None:
        self._end_soon(None)

    def expire(self, error: PredictionError) -> None:
        """Takes no further request, and ends with the error once those on their way are answered."""
        self._end_soon(error)

    def sent(self) -> None:
        with self._lock:
            self._is_sending, self._sending = False, 0
            receive = self._is_waiting and not self._is_ending
            self._is_waiting = False
        if receive:
            self._stream.receive()
        self._go_on()

    def closed(self) -> None:
        with self._lock:
            turns, self._turns = self._turns, deque()
            self._is_ending = True
        for turn in turns:
            turn.cancel()

    def _end_soon(self, error: PredictionError | None) -> None:
        with self._lock:
            self._is_ending, self._farewell = True, self._farewell or error
        self._go_on()

    def _go_on(self) -> None:
        """Sends the next answer where it is there and may be sent; ends where nothing is left."""
        answer = None
        with self._lock:
            is_over = self._is_ending and not self._turns and not self._is_sending
            if self._turns and not self._is_sending and self._turns[0].answer is not None:
                answer = self._turns.popleft().answer or b""
                self._is_sending, self._sending = True, len(answer)
            held = self._sending + sum(len(turn.answer or b"") for turn in self._turns)
        self._stream.hold(held)
        if answer is not None:
            self._stream.send(answer)
        elif is_over:
            self._stream.end(self._farewell)


def _answer(result: Result, request_id: bytes) -> bytes:
    """ModelStreamInferResponse {1: error_message, 2: infer_response}; with an error it has the request's id alone."""
    if isinstance(result, bytes):
        return wire.length_header(2, len(result)) + result
    text = f"{codes.code(result).name}: {codes.status(result).message}"
    response = wire.length_field(3, request_id) if request_id else b""
    return wire.length_field(1, text.encode()) + wire.length_field(2, response)


def _request_id(request: bytes) -> bytes:
    """Of ModelInferRequest {3: id}; nothing where it does not stand at the beginning."""
    try:
        for _, (number, kind, start, end) in zip(range(_HEAD_FIELDS), wire.fields(request), strict=False):
            if (number, kind) == (3, wire.LENGTH):
                return wire.read_text(request, start, end).encode()
    except wire.WireError:
        pass
    return b""
