"""Bytes made to cost: memory stays within a small multiple of what came, time grows with it and no faster."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable

import pytest

from model_runtime import wire
from model_runtime.contract.types import DataType
from model_runtime.tensors import ERAS, Tensor, TensorError, array, decode_request
from model_runtime.tensors.tensor import objects

V2 = ERAS["v2"]


def request(tensor: bytes) -> bytes:
    return wire.length_field(2, wire.length_field(1, b"x") + wire.length_field(2, tensor))


def nested_maps(count: int) -> bytes:
    return wire.length_field(27, wire.length_field(1, wire.length_field(1, b"k") + wire.length_field(2, b""))) * count


VALUES_IN_EVERY_FIELD = b"".join(wire.length_field(field, bytes(8)) for field in range(5, 14))
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "unpacked floats": lambda n: request(b"\x08\x01" + b"\x2d\0\0\0\0" * n),
    "unpacked integers": lambda n: request(b"\x08\x09" + b"\x50\x01" * n),
    "chunks of one float": lambda n: request(b"\x08\x01" + b"\x2a\x04\0\0\0\0" * n),
    "chunks of one integer": lambda n: request(b"\x08\x03" + b"\x3a\x01\x01" * n),
    "empty chunks": lambda n: request(b"\x08\x03" + b"\x3a\x00" * n),
    "empty strings": lambda n: request(b"\x08\x07" + b"\x42\x00" * n),
    "short strings": lambda n: request(b"\x08\x07" + b"\x42\x01a" * n),
    "contents": lambda n: request(b"\x08\x01" + wire.length_field(4, b"\0\0\0\0") * n),
    "shapes": lambda n: request(b"\x12\x00" * n),
    "dims": lambda n: request(wire.length_field(2, b"\x12\x00" * n)),
    "shapes of one dim": lambda n: request(b"\x12\x02\x12\x00" * n),
    "groups": lambda n: request(b"\xa3\x06\xa4\x06" * n),
    "unknown fields": lambda n: request(b"\x98\x06\x01" * n),
    "maps": lambda n: request(b"\x08\x1b" + nested_maps(n // 4)),
    "inputs of one name": lambda n: request(b"") * (n // 4),
    "inputs": lambda n: b"".join(wire.length_field(2, wire.length_field(1, b"%d" % at)) for at in range(n // 4)),
    "pieces of one input": lambda n: wire.length_field(2, b"\x12\x02\x08\x01" * n),
    "specs": lambda n: b"\x0a\x03\x1a\x01a" * n,
    "packed small integers": lambda n: request(b"\x08\x09" + wire.length_field(10, b"\x01" * n)),
    "values in every field": lambda n: request(b"\x08\x01" + VALUES_IN_EVERY_FIELD * (n // 9)),
}


def read(data: bytes) -> None:
    """Whether within the limits (`test_limits`) or beyond them."""
    with contextlib.suppress(wire.TooMany):
        decode_request(V2, data)


@pytest.mark.parametrize("kind", HOSTILE)
def test_memory_is_a_small_multiple_of_what_came(kind: str) -> None:
    data = HOSTILE[kind](20_000)
    read(data)
    tracemalloc.start()
    try:
        read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    # A tensor with nothing in it, named by three bytes, is the dearest: protobuf's own takes as much.
    assert peak < 64 * len(data) + 100_000, f"{peak / len(data):.1f} bytes for each byte"


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_what_came_and_no_faster(kind: str) -> None:
    def seconds(data: bytes) -> float:
        times = []
        for _ in range(3):
            start = time.perf_counter()
            read(data)
            times.append(time.perf_counter() - start)
        return min(times)

    few, many = HOSTILE[kind](4_000), HOSTILE[kind](64_000)

    assert seconds(many) < 64 * seconds(few) + 0.05  # 16 times the bytes; quadratic would be 256 times


@pytest.mark.parametrize("field", [4, 5, 7, 8, 10, 27])
@pytest.mark.parametrize("size", [1 << 20, (1 << 31) - 1, 1 << 31, (1 << 64) - 1])
def test_an_announced_length_allocates_nothing(field: int, size: int) -> None:
    data = request(wire.length_field(2, b"")[:0] + wire.varint(field << 3 | 2) + wire.varint(size) + b"ab")
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError, match="truncated: .* announced|invalid length"):
            decode_request(V2, data)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape", [(1 << 62,), (1 << 62, 4), (1 << 40, 1 << 40), (-1, 1 << 62), (1 << 31, 1 << 31, 0, -1)]
)
def test_dims_that_lie_allocate_nothing(shape: tuple[int, ...]) -> None:
    tensor = Tensor(DataType.STRING, shape, objects([b"a", b"b", b"c"]))
    tracemalloc.start()
    try:
        with pytest.raises(TensorError, match="expected "):
            array(tensor)
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()
