"""Requests of many small parts are refused at the first limit that they pass: work in Python is bounded, whatever came."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import oracle
import pytest

from model_runtime import contract, tensors, wire
from model_runtime.errors import InvalidRequest, PredictionError
from model_runtime.model.service import Context, Request, RuntimeService
from model_runtime.outcome import Call
from model_runtime.prediction import Predictor
from model_runtime.tensors.decode import MAX_INPUTS
from model_runtime.wire import length_field as field

V2, INFER = tensors.ERAS["v2"].predict, "/inference.GRPCInferenceService/ModelInfer"
VECTOR = {"shape": [-1], "type": "double"}
MANY_FIELDS = {f"i{number}": VECTOR for number in range(500)}


def tensor(data: bytes) -> bytes:
    return field(2, field(1, b"x") + field(2, data))


def named(number: int, count: int) -> bytes:
    return b"".join(field(number, field(1, b"n%07d" % at)) for at in range(count))


N = 300_000
# Path, and bytes of about N small parts.
HOSTILE: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "unknown fields": (V2, lambda n: b"\x98\x06\x01" * n),
    "empty inputs": (V2, lambda n: b"\x12\x00" * n),
    "unknown names": (V2, lambda n: named(2, n // 7)),
    "model specs": (V2, lambda n: b"\x0a\x00" * n),
    "groups": (V2, lambda n: b"\xa3\x06\xa4\x06" * n),
    "fields of a group": (V2, lambda n: b"\xa3\x06" + b"\x08\x01" * n + b"\xa4\x06"),
    "dims": (V2, lambda n: tensor(b"\x08\x02" + field(2, b"\x12\x02\x08\x01" * n))),
    "shapes": (V2, lambda n: tensor(b"\x12\x00" * n)),
    "unknown fields of a shape": (V2, lambda n: tensor(field(2, b"\x20\x00" * 4 * n))),
    "alternating values": (V2, lambda n: tensor(b"\x31" + bytes(8) + b"\x50\x01") * n),
    "values in twos": (V2, lambda n: tensor(b"\x50\x01\x50\x01\x38\x01\x38\x01" * n)),
    "strings in twos": (V2, lambda n: tensor(b"\x42\x00\x42\x00\x08\x07" * n)),
    "empty strings": (V2, lambda n: tensor(b"\x08\x07" + b"\x42\x00" * 4 * n)),
    "chunks": (V2, lambda n: tensor(b"\x08\x09" + b"\x52\x01\x01" * n)),
    "empty maps": (V2, lambda n: tensor(b"\x08\x1b" + b"\xda\x01\x00" * n)),
    "maps of one": (V2, lambda n: tensor(b"\x08\x1b" + field(27, field(1, field(1, b"k"))) * n)),
    "variants": (V2, lambda n: tensor(b"\x7a\x02\x1a\x00" * n)),
    "empty tensors": (INFER, lambda n: b"\x2a\x00" * n),
    "named tensors": (INFER, lambda n: named(5, n // 7)),
    "empty outputs": (INFER, lambda n: b"\x32\x00" * n),
    "raw contents": (INFER, lambda n: b"\x3a\x00" * n),
    "parameters": (INFER, lambda n: b"\x22\x00" * n),
    "unpacked dims": (INFER, lambda n: field(5, b"\x18\x01" * n)),
    "empty contents": (INFER, lambda n: field(5, b"\x2a\x00" * n)),
    "raw strings": (INFER, lambda n: field(5, field(1, b"x") + field(2, b"BYTES")) + field(7, bytes(16 * n))),
}


class One(RuntimeService):
    def Predict(self, request: Request, context: Context) -> Any:
        return {"y": [1.0]}


def refused(method: str, data: bytes, inputs: Any) -> PredictionError:
    made = Predictor(One("/nowhere", contract.parse({"name": "f", "inputs": inputs, "outputs": {"y": VECTOR}})))
    [outcome] = made.handle_all([Call(method, data)])
    assert isinstance(outcome.result, PredictionError)
    return outcome.result


def calls(method: str, data: bytes) -> int:
    """Calls and resumptions of Python functions that reading the bytes takes: what no machine and no neighbour changes."""
    count = 0

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    codec = tensors.CODEC_BY_PATH[method]
    sys.setprofile(profile)
    try:
        codec.decode_request(data)
    except (wire.WireError, tensors.TensorError):
        pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", HOSTILE)
def test_many_small_parts_are_refused_with_the_limit_they_pass(name: str) -> None:
    method, make = HOSTILE[name]
    error = refused(method, make(N), {"x": VECTOR})

    assert isinstance(error, InvalidRequest)
    assert "the request is more than is read: expected at most" in str(error)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_does_not_grow_beyond_the_limit(name: str) -> None:
    method, make = HOSTILE[name]
    once = calls(method, make(N))

    assert once < 6 * wire.MAX_FIELDS
    assert calls(method, make(2 * N)) < 1.1 * once + 1000


@pytest.mark.parametrize(("tag", "value", "dtype"), [(0x31, bytes(8), 2), (0x2D, bytes(4), 1), (0x50, b"\xac\x02", 9)])
def test_unpacked_numbers_are_read_by_numpy(tag: int, value: bytes, dtype: int) -> None:
    unpacked = bytes((tag,)) + value
    data = tensor(bytes((8, dtype)) + unpacked * 400_000)

    assert calls(V2, data) < 1000
    read = tensors.CODEC_BY_PATH[V2].decode_request(data).inputs["x"].values
    assert len(read) == 400_000
    assert set(read.tolist()) == {300 if dtype == 9 else 0}


@pytest.mark.parametrize("sizes", [[1], [1, 2, 3], [20, 1, 200, 1, 5000], [100_000, 1]])
@pytest.mark.parametrize("values", [[0], [1, 300, -1, 1 << 40], [0x50 - 1, 0x50, 0x50 + 1, 0x38]])
def test_runs_of_every_length_are_read_as_protobuf_reads_them(sizes: list[int], values: list[int]) -> None:
    pieces = []
    for number, size in enumerate(sizes):
        many = (values * size)[:size]
        if number % 2:
            pieces.append(field(10, b"".join(map(wire.varint, many))))
        else:
            pieces += [b"\x50" + wire.varint(value) for value in many]
    data = tensor(b"\x08\x09" + b"".join(pieces) + b"\x80\x01\x05" * 30 + b"\x8d\x01" + bytes(4))

    assert oracle.request(tensors.ERAS["v2"], data) is not None


def test_unknown_names_are_counted_not_repeated() -> None:
    error = refused(V2, named(2, MAX_INPUTS), MANY_FIELDS)

    assert len(error.violations) <= 101
    assert len(str(error)) < 20_000
    unknown = refused(V2, named(2, 1000), {"x": VECTOR})
    assert unknown.violations[-1].message == "names that are not in the contract: 990 more"
    assert [violation.message for violation in unknown.violations[1:3]] == [
        "not in the contract, expected x",
        "not in the contract",
    ]


def test_maps_that_lack_many_fields_are_not_looked_through() -> None:
    inputs = {"x": {"shape": [-1], "fields": MANY_FIELDS}}
    error = refused(V2, tensor(b"\x08\x1b" + b"\xda\x01\x00" * 10_000), inputs)

    assert len(error.violations) == 101
    assert error.violations[-1].message == "only the first 100 are listed"


def test_a_long_name_is_cut() -> None:
    assert len(str(refused(V2, field(2, field(1, b"n" * 1_000_000)), {"x": VECTOR}))) < 1000


def test_a_tensor_of_as_many_values_as_fit_is_read() -> None:
    values = np.arange(1 << 20)
    data = tensors.encode_request(tensors.ERAS["v2"], tensors.Request({"x": tensors.tensor(values)}))

    assert tensors.CODEC_BY_PATH[V2].decode_request(data).inputs["x"].values.tolist() == values.tolist()
