"""Frames over a Unix socket between the server and a model process: calls one way, answers the other. Both sides use this.

A frame is a header and a payload of raw bytes. What arrives is checked before anything is done with it: user code runs in the
model process and can write to this socket. Standard library only, Python 3.8: the model process runs it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Callable, Collection, Iterable, List, NamedTuple, Optional, Tuple, Union

Payload = Union[bytes, bytearray, memoryview]

# To the model process.
CALL, CANCEL = 1, 2
# From the model process.
ANSWER, FAILURE, DROPPED = 3, 4, 5

_HEADER = struct.Struct("<BBQQdd")
_READ_BYTES = 1 << 16  # more than most bursts of small calls
_OWN_BUFFER = 1 << 15  # a payload beyond this is received into memory of its own, which numpy may then use in place
_FIRST_BYTES = 1 << 22  # of a long payload that are allocated before any of it has arrived
_IOV_MAX = 512  # Linux takes 1024 pieces at a time


class ChannelError(Exception):
    """What arrived is not a frame that this side accepts. Nothing after it can be read."""


class Frame(NamedTuple):
    """One message. What the two numbers mean depends on its kind.

    CALL: `code` is the index of the method, `first` the deadline on the monotonic clock (0: none). ANSWER and FAILURE: `code` is
    the size of the batch (255: or more), `first` the seconds spent in the model, `second` those spent in decoding and encoding.
    DROPPED: the call was cancelled before the model began it. Each CALL gets exactly one of the three.
    """

    kind: int
    code: int
    id: int
    payload: Payload = b""
    first: float = 0.0
    second: float = 0.0


class Channel:
    """Sends and receives whole frames over a stream socket. One thread at a time may send, and one may receive.

    `kinds` are the frames that this side accepts, `limit` the most bytes that a payload may have.
    """

    def __init__(self, stream: socket.socket, kinds: Collection[int], limit: int) -> None:
        self.stream = stream
        self._kinds, self._limit = frozenset(kinds), limit
        self._rest = b""  # the beginning of a frame that has not arrived whole

    def send(self, frames: Iterable[Frame]) -> None:
        """All the frames in as few system calls as possible. Raises OSError when the other side is gone."""
        self.send_pieces(pieces(frames))

    def send_pieces(self, every: List[Payload]) -> None:
        """Waits until the socket has taken all the pieces. Raises OSError as `send` does."""
        for start in range(0, len(every), _IOV_MAX):
            some = every[start : start + _IOV_MAX]
            for piece in _behind(some, self.stream.sendmsg(some)):
                self.stream.sendall(piece)

    def send_now(self, some: List[Payload]) -> List[Payload]:
        """Never waits: what of the pieces (at most a few) the socket did not take. Raises OSError as `send` does."""
        try:
            return _behind(some, self.stream.sendmsg(some, (), socket.MSG_DONTWAIT))
        except BlockingIOError:
            return some

    def receive(self, wait: Optional[Callable[[], object]] = None) -> List[Frame]:
        """What has arrived: at least one frame, for which it waits. `wait` is called before each read that may block.

        Raises EOFError when the other side is gone, and ChannelError for what is not a frame.
        """
        if self._is_deferred():
            frames, self._rest = self._split(self._rest, None)
            return frames
        while True:
            if wait is not None:
                wait()
            frames, self._rest = self._split(self._rest + self._received(0), None)
            if frames:
                return frames

    def receive_waiting(self, budget: int) -> List[Frame]:
        """What has arrived already, perhaps nothing; never waits for a frame to begin. Raises as `receive` does.

        Reads on until the payloads have `budget` bytes. A frame that would exceed it is left for the next call.
        """
        frames: List[Frame] = []
        while budget > 0 and not self._is_deferred():
            try:
                data = self._received(socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            more, self._rest = self._split(self._rest + data, budget)
            frames += more
            budget -= sum(len(frame.payload) for frame in more)
            if len(data) < _READ_BYTES:
                break
        return frames

    def _is_deferred(self) -> bool:
        """Whether a long frame has begun to arrive and was left for `receive`."""
        return len(self._rest) >= _HEADER.size and _HEADER.unpack_from(self._rest)[3] > _OWN_BUFFER

    def _received(self, flags: int) -> bytes:
        data = self.stream.recv(_READ_BYTES, flags)
        if not data:
            raise EOFError("the other side has closed the channel")
        return data

    def _split(self, data: bytes, budget: Optional[int]) -> Tuple[List[Frame], bytes]:
        """The whole frames at the beginning of `data`, and what is behind them. Waits for the rest of a long payload."""
        frames: List[Frame] = []
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            kind, code, number, size, first, second = _HEADER.unpack_from(data, at)
            self._check(kind, size)
            start = at + _HEADER.size
            if size > _OWN_BUFFER:
                if budget is not None and size > budget:
                    break
                have = min(size, end - start)
                payload: Payload = self._long_payload(memoryview(data)[start : start + have], size)
                at = start + have
            elif end - start < size:
                break
            else:
                at = start + size
                payload = data[start:at]
            frames.append(Frame(kind, code, number, payload, first, second))
        return frames, data[at:]

    def _check(self, kind: int, size: int) -> None:
        if kind not in self._kinds:
            raise ChannelError(f"expected a frame of kind {_listed(self._kinds)}, got {kind}")
        if size > self._limit:
            raise ChannelError(f"expected a frame of at most {self._limit} bytes, got one of {size}")

    def _long_payload(self, beginning: memoryview, size: int) -> bytearray:
        """Memory grows with what arrives, not with what the header announced."""
        payload = bytearray(min(size, max(_FIRST_BYTES, len(beginning))))
        payload[: len(beginning)] = beginning
        at = len(beginning)
        while at < size:
            if at == len(payload):
                payload += bytes(min(size - at, at))
            with memoryview(payload) as view:
                received = self.stream.recv_into(view[at:])
            if not received:
                raise EOFError("the other side has closed the channel within a frame")
            at += received
        return payload

    def hang_up(self) -> None:
        """Wakes whoever receives or sends on our side; what has arrived already can still be read."""
        with contextlib.suppress(OSError):
            self.stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.stream.close()


def pieces(frames: Iterable[Frame]) -> List[Payload]:
    """The frames as bytes: headers, and payloads that are not copied."""
    every: List[Payload] = []
    for frame in frames:
        every.append(_HEADER.pack(frame.kind, frame.code, frame.id, len(frame.payload), frame.first, frame.second))
        if frame.payload:
            every.append(frame.payload)
    return every


def _behind(some: List[Payload], sent: int) -> List[Payload]:
    """What is left of the pieces when so many bytes of them are sent."""
    if sent == sum(map(len, some)):
        return []
    for index, piece in enumerate(some):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *some[index + 1 :]]
        sent -= len(piece)
    return []


def _listed(kinds: Collection[int]) -> str:
    return " or ".join(map(str, sorted(kinds)))
