"""What hostile, broken and impatient clients do to a port, in pieces; over raw HTTP/2, as gRPC's own clients behave too well.

For loopback only. Every piece is bounded in number, and leaves nothing behind when its `with` block ends.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MODEL = "tensorflow.serving.PredictionService"

Ended = dict[str, str]


def frame(message: bytes, *, compressed: bool = False, announced: int | None = None) -> bytes:
    """A gRPC message in its frame, which may announce more than comes."""
    size = len(message) if announced is None else announced
    return struct.pack(">?I", compressed, size) + message


class Connection:
    """An HTTP/2 connection that does as it is told: half-open streams, tiny windows, lies about sizes."""

    def __init__(self, port: int, *, window: int | None = None, ca: Path | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        if ca is not None:
            context = ssl.create_default_context(cafile=str(ca))
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        )
        if window is not None:
            initial = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self.h2.local_settings = h2.settings.Settings(client=True, initial_values=initial)
        self._unread = b""
        self.h2.initiate_connection()
        self.messages: dict[int, bytearray] = {}
        self.trailers: dict[int, Ended] = {}
        self.is_closed = False
        self.flush()

    def flush(self) -> None:
        self.socket.settimeout(10)
        self.socket.sendall(self.h2.data_to_send())

    def begin(self, path: str, *, metadata: Sequence[tuple[str, str]] = ()) -> int:
        """Opens a call: its headers, and nothing more. `flush` sends them."""
        stream = self.h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        self.h2.send_headers(stream, headers)
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False, seconds: float = 10.0) -> int:
        """Sends bytes of a stream as its windows allow, for so long; returns how many."""
        sent, until = 0, time.monotonic() + seconds
        while sent < len(data) and time.monotonic() < until and not self.is_closed and stream not in self.trailers:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data) - sent)
            if room <= 0:
                self.read(0.05)
                continue
            self.h2.send_data(stream, data[sent : sent + room])
            sent += room
            try:
                self.flush()
            except OSError:
                self.is_closed = True
            if sent % (1 << 20) < room:
                self.read(0.0)
        if end and sent == len(data) and not self.is_closed:
            self.h2.end_stream(stream)
            self.flush()
        return sent

    def read(self, seconds: float) -> None:
        """Takes in what comes within so long; returns at once after something came."""
        self.socket.settimeout(seconds or 0.0001)
        try:
            data = self.socket.recv(1 << 16)
        except (TimeoutError, ssl.SSLWantReadError, BlockingIOError):
            return
        except OSError:
            data = b""
        if not data:
            self.is_closed = True
            return
        self._unread += data
        while len(self._unread) >= 9 and len(self._unread) >= (size := 9 + int.from_bytes(self._unread[:3], "big")):
            one, self._unread = self._unread[:size], self._unread[size:]
            for event in self.h2.receive_data(one):
                self._take(event)
        with contextlib.suppress(OSError):
            self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.messages.setdefault(event.stream_id, bytearray()).extend(event.data)
        elif isinstance(event, (h2.events.TrailersReceived, h2.events.ResponseReceived)):
            headers = {str(name): str(value) for name, value in event.headers}
            if "grpc-status" in headers:
                self.trailers[event.stream_id] = headers
        elif isinstance(
            event, h2.events.ConnectionTerminated
        ):  # h2 would go no further; gRPC goes on until all is answered
            self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        elif isinstance(event, h2.events.StreamReset):
            self.trailers.setdefault(event.stream_id, {"reset": str(int(event.error_code))})

    def ending(self, stream: int, seconds: float = 10.0) -> Ended:
        """The trailers of a call, once they are there; {} where none came in time."""
        until = time.monotonic() + seconds
        while stream not in self.trailers and not self.is_closed and time.monotonic() < until:
            self.read(0.1)
        return self.trailers.get(stream, {})

    def wait_closed(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self.is_closed and time.monotonic() < until:
            self.read(0.1)
        return self.is_closed

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def health_request(name: str) -> bytes:
    text = name.encode()
    assert len(text) < 128
    return frame(b"\x0a" + bytes([len(text)]) + text if text else b"")


@contextlib.contextmanager
def half_open(port: int, path: str, count: int, *, on_each: int = 100) -> Iterator[list[Connection]]:
    """So many calls of which only the headers came."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(-(-count // on_each))]
        for number in range(count):
            connections[number % len(connections)].begin(path)
        for connection in connections:
            connection.flush()
        yield connections


@contextlib.contextmanager
def watches(
    port: int, names: Sequence[str], *, window: int | None = None, on_each: int = 100
) -> Iterator[list[Connection]]:
    """A Watch of each name. With a tiny `window`, whose one message does not fit, the watchers never read."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(port, window=window)) for _ in range(-(-len(names) // on_each))]
        for number, name in enumerate(names):
            connection = connections[number % len(connections)]
            connection.send(connection.begin(WATCH), health_request(name), end=True)
        yield connections


@contextlib.contextmanager
def half_sent(port: int, path: str, count: int, *, sent: int, announced: int) -> Iterator[list[Connection]]:
    """Calls, a connection each, that announce a message of one size and send less of it."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(port)) for _ in range(count)]
        body = frame(b"\0" * sent, announced=announced)
        for connection in connections:
            connection.send(connection.begin(path), body, seconds=20)
        yield connections


def gzipped(connection: Connection, path: str, inflated: int) -> Ended:
    """How a call ends whose compressed message inflates to so many zeros."""
    body = gzip.compress(b"\0" * inflated, 9)
    stream = connection.begin(path, metadata=[("grpc-encoding", "gzip")])
    connection.send(stream, frame(body, compressed=True), end=True)
    return connection.ending(stream)


def health_checking_channel(port: int, name: str = MODEL) -> grpc.Channel:
    """A plain client that balances and checks health, as a service config makes them."""
    config = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": name}}
    options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.insecure_channel(f"localhost:{port}", options)
