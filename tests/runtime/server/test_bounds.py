"""What one port takes at the most: connections, streams, metadata, bytes in every state; and what is said at each limit."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import attacks
import grpc
import numpy as np
import pytest
from attacks import CHECK, MODEL, PREDICT, REFLECT, WATCH, Connection, frame
from serving import Program, model_directory

from model_runtime import tensors
from model_runtime.errors import InvalidRequest, Overloaded, PredictionError
from model_runtime.server.engine import LARGE_BYTES
from model_runtime.server.inflation import AT_ONCE_BYTES, MAX_WAITING, Inflater, at_once, is_compressed
from model_runtime.settings import MIB

X = {"x": tensors.tensor(np.array([1.0]))}
REQUEST = tensors.encode_request(tensors.ERAS["v2"], tensors.Request(X))
GROW = "import numpy\n\ndef echo(x):\n    return {'y': numpy.zeros(int(x[0]))}\n"
EXHAUSTED = str(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
INVALID = str(grpc.StatusCode.INVALID_ARGUMENT.value[0])


def peak_mib(pid: int) -> int:
    """The most that a process has had in memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


# Compression ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 1000, 200_000])
def test_compressed_requests_of_any_size_are_answered(serve: Any, count: int) -> None:
    client = serve()
    sent = np.random.default_rng(1).normal(size=count)
    codec = tensors.CODECS["v2"]
    request = codec.encode_request({"x": tensors.tensor(sent)}, "")

    answer = client.channel.unary_unary(PREDICT)(request, timeout=20, compression=grpc.Compression.Gzip)

    np.testing.assert_array_equal(tensors.array(codec.decode_response(answer)["y"]), sent)


def test_a_compressed_probe_is_answered(serve: Any) -> None:
    name = b"\x0a\x08" + b"liveness"
    answer = serve().channel.unary_unary(CHECK)(name * 100, timeout=5, compression=grpc.Compression.Gzip)

    assert answer == b"\x08\x01"


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), MAX_MESSAGE_BYTES=str(64 * MIB)) as program, program.client() as client:
        program.wait_serving()
        before = peak_mib(program.process.pid)
        with Connection(program.port) as connection:
            endings = [attacks.gzipped(connection, PREDICT, 256 * MIB) for _ in range(3)]

        assert [ending["grpc-status"] for ending in endings] == [EXHAUSTED] * 3
        assert "MAX_MESSAGE_BYTES" in endings[0]["grpc-message"]
        assert peak_mib(program.process.pid) - before < 32
        assert client.predict(X)["y"].tolist() == [1.0]


@pytest.mark.parametrize("path", [REFLECT, WATCH])
def test_a_bomb_on_a_stream_is_refused(serve: Any, path: str) -> None:
    with Connection(serve().runtime.port) as connection:
        assert attacks.gzipped(connection, path, 64 * MIB)["grpc-status"] == EXHAUSTED


@pytest.mark.parametrize(
    "body",
    [
        b"\x1f\x8b",
        gzip.compress(REQUEST)[:-4],
        gzip.compress(REQUEST) + b"more",
        b"\x1f\x8b\x08" + b"\xff" * 100,
        gzip.compress(bytes(AT_ONCE_BYTES * 2))[:-4],
        gzip.compress(bytes(AT_ONCE_BYTES * 2)) + b"more",
    ],
)
def test_what_cannot_be_inflated_is_the_clients_fault(serve: Any, body: bytes) -> None:
    with Connection(serve().runtime.port) as connection:
        stream = connection.begin(PREDICT, metadata=[("grpc-encoding", "gzip")])
        connection.send(stream, frame(body, compressed=True), end=True)

        ending = connection.ending(stream)

    assert ending["grpc-status"] == INVALID
    assert "cannot be inflated" in ending["grpc-message"]


def test_another_compression_is_refused_by_name(serve: Any) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        serve().channel.unary_unary(PREDICT)(bytes(1000), timeout=5, compression=grpc.Compression.Deflate)

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "deflate" in (refused.value.details() or "")


def test_no_message_begins_as_gzip_does() -> None:
    for tag in range(0x20):
        if tag & 7 > 5:
            continue
        assert not is_compressed(bytes([tag, 0x8B]))


def test_inflating_counts_before_it_keeps() -> None:
    inflated: list[bytes | PredictionError] = []
    asked: list[int] = []
    came = threading.Event()

    def admit(size: int) -> None:
        asked.append(size)
        if size > 2 * MIB:
            raise Overloaded("no room")

    def then(result: bytes | PredictionError) -> None:
        inflated.append(result)
        if len(inflated) == 4:
            came.set()

    inflater = Inflater(8 * MIB, admit)
    for message in (gzip.compress(bytes(size)) for size in (0, 2 * MIB, 3 * MIB, 9 * MIB)):
        inflater.submit(message, then)
    assert came.wait(10)
    inflater.stop()

    assert inflated[:2] == [b"", bytes(2 * MIB)]
    assert [str(error) for error in inflated[2:]] == [
        "no room",
        f"the request inflates to more than {8 * MIB} bytes (MAX_MESSAGE_BYTES)",
    ]
    assert asked == [0, 2 * MIB, 3 * MIB]


def test_compressed_requests_that_wait_are_bounded() -> None:
    go_on = threading.Event()
    inflater = Inflater(MIB, lambda _size: None)
    message = gzip.compress(b"x")
    inflater.submit(message, lambda _result: (go_on.wait(10), None)[1])  # type: ignore[func-returns-value]
    for _ in range(MAX_WAITING - 1):
        inflater.submit(message, lambda _result: None)
    with pytest.raises(Overloaded, match="waiting to be inflated"):
        inflater.submit(message, lambda _result: None)
    go_on.set()
    inflater.stop()


def test_small_messages_are_inflated_at_once_and_large_ones_not() -> None:
    assert at_once(gzip.compress(REQUEST)) == REQUEST
    assert at_once(gzip.compress(bytes(AT_ONCE_BYTES))) == bytes(AT_ONCE_BYTES)
    assert at_once(gzip.compress(bytes(AT_ONCE_BYTES + 1))) is None
    assert isinstance(at_once(zlib.compress(REQUEST)), InvalidRequest)


# Metadata, connections, streams --------------------------------------------------------------------------------------


def test_metadata_has_one_limit_and_below_it_every_call_passes(serve: Any) -> None:
    client = serve(max_metadata_bytes=12_000)
    predict = client.channel.unary_unary(PREDICT)
    for size in range(7000, 11_000, 250):
        assert predict(REQUEST, timeout=5, metadata=(("key", "v" * size),))
    with pytest.raises(grpc.RpcError) as refused:
        predict(REQUEST, timeout=5, metadata=(("key", "v" * 12_000),))

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_connection_too_many_is_closed_at_once(serve: Any) -> None:
    port = serve(max_connections=3).runtime.port
    first = [Connection(port) for _ in range(2)]  # and the fixture's own
    endings = [Connection(port) for _ in range(3)]

    assert any(connection.wait_closed(5) for connection in endings)
    assert not any(connection.wait_closed(0.2) for connection in first)
    for connection in (*first, *endings):
        connection.close()


def test_a_client_that_says_nothing_is_left(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from model_runtime.server import options

    monkeypatch.setattr(options, "HANDSHAKE_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", serve().runtime.port)) as silent:
        silent.settimeout(5)
        while silent.recv(1000):
            pass


def test_a_connection_has_a_limit_of_open_calls(serve: Any) -> None:
    with Connection(serve(max_streams=7).runtime.port) as connection:
        until = time.monotonic() + 5
        while connection.h2.remote_settings.max_concurrent_streams != 7 and time.monotonic() < until:
            connection.read(0.1)

        assert connection.h2.remote_settings.max_concurrent_streams == 7


# Bytes ---------------------------------------------------------------------------------------------------------------


def test_half_sent_requests_give_way_where_memory_is_short(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), MAX_QUEUE_BYTES=str(16 * MIB)) as program, program.client() as client:
        program.wait_serving()
        for _ in range(2):
            with attacks.half_sent(program.port, PREDICT, 10, sent=60 * MIB, announced=400 * MIB) as connections:
                assert client.predict(X)["y"].tolist() == [1.0]
                refused = [connection.ending(1, 2).get("grpc-status") for connection in connections]
        peak = peak_mib(program.process.pid)
        program.terminate()
        status, errors = program.end()

    assert EXHAUSTED in refused
    assert peak < 16 + 512
    assert "memory is short" in errors
    assert status == 0


def test_answers_that_nobody_reads_give_way_to_requests(serve: Any) -> None:
    client = serve(GROW, max_queue_bytes=4 * MIB)
    codec = tensors.CODECS["v2"]
    large = codec.encode_request({"x": tensors.tensor(np.array([200_000.0]))}, "")  # 1.6 MB of answer
    with Connection(client.runtime.port, window=1) as connection:
        for _ in range(3):
            connection.send(connection.begin(PREDICT), frame(large), end=True)
        departures = client.runtime._executor.departures
        until = time.monotonic() + 10
        while departures.bytes < 3 * 1_600_000 and time.monotonic() < until:
            connection.read(0.05)
        assert departures.bytes > 3 * 1_600_000 > 4 * MIB > LARGE_BYTES
        time.sleep(1.1)

        assert len(client.predict({"x": tensors.tensor(np.array([10.0]))})["y"]) == 10
        assert departures.bytes < 4 * MIB


def test_an_answer_that_is_not_read_in_time_is_let_go(serve: Any) -> None:
    client = serve(GROW, transfer_timeout=0.5)
    large = tensors.CODECS["v2"].encode_request({"x": tensors.tensor(np.array([200_000.0]))}, "")
    with Connection(client.runtime.port, window=1) as connection:
        stream = connection.begin(PREDICT)
        connection.send(stream, frame(large), end=True)

        assert connection.ending(stream)["grpc-status"] == str(grpc.StatusCode.CANCELLED.value[0])
    until = time.monotonic() + 5  # the client hears of the end before the server's own thread has noted it
    while client.runtime._executor.departures.bytes and time.monotonic() < until:
        time.sleep(0.01)
    assert client.runtime._executor.departures.bytes == 0


def test_thousands_of_watches_and_half_open_calls_take_a_bounded_memory(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path)) as program, program.client() as client:
        program.wait_serving()
        before = peak_mib(program.process.pid)
        with (
            attacks.watches(program.port, [MODEL] * 2000, on_each=200),
            attacks.half_open(program.port, PREDICT, 5000, on_each=200),
            attacks.half_open(program.port, REFLECT, 5000, on_each=200),
        ):
            assert client.predict(X)["y"].tolist() == [1.0]
            assert client.health() == "SERVING"

        assert peak_mib(program.process.pid) - before < 256


def test_a_health_request_larger_than_any_name_is_answered(serve: Any) -> None:
    name = b"\x0a\x80\x80\x04" + b"a" * 65536
    with Connection(serve().runtime.port) as connection:
        stream = connection.begin(WATCH)
        connection.send(stream, frame(name), end=True)
        until = time.monotonic() + 5
        while not connection.messages and time.monotonic() < until:
            connection.read(0.1)

        assert bytes(connection.messages[stream]) == frame(b"\x08\x03")
