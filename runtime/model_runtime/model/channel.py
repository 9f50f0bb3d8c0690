"""Frames over a Unix socket between the server and a model process: calls one way, answers the other. Both sides use this.

A frame is a header and a payload of raw bytes. Standard library only, Python 3.8: the model process runs it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from typing import Iterable, List, NamedTuple, Tuple, Union

Payload = Union[bytes, bytearray, memoryview]

# To the model process.
CALL, CANCEL = 1, 2
# From the model process.
ANSWER, FAILURE = 3, 4

_HEADER = struct.Struct("<BBIQdd")
_READ_BYTES = 1 << 16  # more than most bursts of small calls
_OWN_BUFFER = 1 << 15  # a payload beyond this is received into memory of its own, which numpy may then use in place
_IOV_MAX = 512  # Linux takes 1024 pieces at a time


class Frame(NamedTuple):
    """One message. What the two numbers mean depends on its kind.

    CALL: `code` is the index of the method, `first` the deadline on the monotonic clock (0: none). ANSWER and FAILURE: `code` is
    the size of the batch (255: or more), `first` the seconds spent in the model, `second` those spent in decoding and encoding.
    """

    kind: int
    code: int
    id: int
    payload: Payload = b""
    first: float = 0.0
    second: float = 0.0


class Channel:
    """Sends and receives whole frames over a stream socket. One thread at a time may send, and one may receive."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self._rest = b""  # the beginning of a frame that has not arrived whole

    def send(self, frames: Iterable[Frame]) -> None:
        """All the frames in as few system calls as possible. Raises OSError when the other side is gone."""
        every = pieces(frames)
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

    def receive(self) -> List[Frame]:
        """What has arrived: at least one frame, for which it waits. Raises EOFError when the other side is gone."""
        while True:
            data = self.stream.recv(_READ_BYTES)
            if not data:
                raise EOFError("the other side has closed the channel")
            frames, self._rest = self._split(self._rest + data if self._rest else data)
            if frames:
                return frames

    def receive_waiting(self) -> List[Frame]:
        """What has arrived already, perhaps nothing; never waits. Raises EOFError."""
        frames: List[Frame] = []
        try:
            while True:
                data = self.stream.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                if not data:
                    raise EOFError("the other side has closed the channel")
                more, self._rest = self._split(self._rest + data if self._rest else data)
                frames += more
                if len(data) < _READ_BYTES:
                    return frames
        except BlockingIOError:
            return frames

    def _split(self, data: bytes) -> Tuple[List[Frame], bytes]:
        frames: List[Frame] = []
        at, end = 0, len(data)
        while end - at >= _HEADER.size:
            kind, code, number, size, first, second = _HEADER.unpack_from(data, at)
            start = at + _HEADER.size
            if size > _OWN_BUFFER:
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

    def _long_payload(self, beginning: memoryview, size: int) -> bytearray:
        payload = bytearray(size)
        view = memoryview(payload)
        at = len(beginning)
        view[:at] = beginning
        while at < size:
            received = self.stream.recv_into(view[at:], size - at)
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


def inherited(descriptor: int) -> Channel:
    """The channel behind a descriptor that this process was started with. Programs that it starts do not inherit it."""
    os.set_inheritable(descriptor, False)
    return Channel(socket.socket(fileno=descriptor))
