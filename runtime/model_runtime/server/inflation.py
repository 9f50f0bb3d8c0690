"""Compressed requests, inflated under our own limits.

gRPC's core inflates a message before it looks at the size: a few MB of gzip would fill any memory. So the core is told to leave
gzip alone (`grpc.per_message_decompression`), and hands it on as it came. It cannot be mistaken: no protobuf message begins with
the first byte of gzip, which would be a field of a wire type that does not exist.
"""

from __future__ import annotations

import logging
import queue
import threading
import zlib
from collections.abc import Callable

from ..errors import InvalidRequest, Overloaded, PredictionError

log = logging.getLogger(__name__)

_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 18
AT_ONCE_BYTES = 1 << 18  # what is inflated while everybody waits: a fraction of a millisecond
MAX_WAITING = 64  # compressed requests that wait for the thread
MAX_WAITING_BYTES = 64 << 20  # theirs, as they came; one alone may be larger

Then = Callable[["bytes | PredictionError"], None]


def is_compressed(message: bytes) -> bool:
    return message[:2] == _MAGIC


def at_once(message: bytes) -> bytes | PredictionError | None:
    """The small message in a compressed one; None where it is larger than AT_ONCE_BYTES."""
    try:
        inflating = zlib.decompressobj(_GZIP)
        inflated = inflating.decompress(message, AT_ONCE_BYTES + 1)
        if len(inflated) > AT_ONCE_BYTES:
            return None
        return inflated if _is_whole(inflating) else _broken("it is truncated, or something follows it")
    except zlib.error as error:
        return _broken(error)


class Inflater:
    """Inflates the larger ones in a thread, one after another: first for the size alone, then for good.

    `admit` is asked with the size before any memory is taken, and raises PredictionError where there is no room.
    """

    def __init__(self, most_bytes: int, admit: Callable[[int], None]) -> None:
        self._most_bytes, self._admit = most_bytes, admit
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[tuple[bytes, Then] | None] = queue.SimpleQueue()
        self._calls = self._bytes = 0
        self._thread: threading.Thread | None = None

    def submit(self, message: bytes, then: Then) -> None:
        """`then` is told the message or why there is none, in the thread. Raises Overloaded where too much waits."""
        with self._lock:
            if self._calls >= MAX_WAITING or (self._calls and self._bytes + len(message) > MAX_WAITING_BYTES):
                raise Overloaded("too many compressed requests are waiting to be inflated")
            self._calls += 1
            self._bytes += len(message)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="inflater", daemon=True)
                self._thread.start()
        self._waiting.put((message, then))

    def stop(self) -> None:
        self._waiting.put(None)

    def _run(self) -> None:
        while (job := self._waiting.get()) is not None:
            message, then = job
            try:
                then(self._inflated(message))
            except BaseException:  # the thread must go on for the others
                log.exception("a call ended in an internal error")
            with self._lock:
                self._calls -= 1
                self._bytes -= len(message)
            del job, message, then

    def _inflated(self, message: bytes) -> bytes | PredictionError:
        try:
            size = self._size(message)
            if size > self._most_bytes:
                return Overloaded(f"the request inflates to more than {self._most_bytes} bytes (MAX_MESSAGE_BYTES)")
            self._admit(size)
            return zlib.decompress(message, _GZIP, size) if size else b""
        except PredictionError as error:
            return error
        except zlib.error as error:
            return _broken(error)

    def _size(self, message: bytes) -> int:
        """What it inflates to, with a piece of it in memory at a time; more than the most where it is more."""
        inflating = zlib.decompressobj(_GZIP)
        size, left = 0, message
        while not inflating.eof and size <= self._most_bytes:
            piece = inflating.decompress(left, _PIECE_BYTES)
            size += len(piece)
            left = inflating.unconsumed_tail
            if not piece and not left and not inflating.eof:
                raise zlib.error("it is truncated")
        if inflating.eof and not _is_whole(inflating):
            raise zlib.error("something follows it")
        return size


def _is_whole(inflating: zlib._Decompress) -> bool:
    return inflating.eof and not inflating.unused_data


def _broken(error: object) -> InvalidRequest:
    return InvalidRequest(f"the request is compressed and cannot be inflated: {error}")
