"""Responses and requests written without protobuf, read back by protobuf."""

from typing import Any

import numpy as np
import oracle
import pytest

from model_runtime.contract.types import DataType
from model_runtime.tensors import (
    ERAS,
    Era,
    Request,
    Tensor,
    TensorError,
    decode_response,
    encode_request,
    encode_response,
    map_tensor,
    tensor,
)

V2, V3 = ERAS["v2"], ERAS["v3"]
EVERY_ERA = pytest.mark.parametrize("era", ERAS.values(), ids=ERAS)


def read(era: Era, outputs: dict[str, Tensor]) -> Any:
    """protobuf's message of what we write; it writes the same bytes again."""
    written = encode_response(era, outputs)
    message = oracle.message(era, "PredictResponse").FromString(written)
    if len(outputs) == 1 and all(tensor.dtype != DataType.MAP for tensor in outputs.values()):
        assert message.SerializeToString(deterministic=True) == written
    return message.outputs


@pytest.mark.parametrize(
    ("dtype", "field", "value", "carried"),
    [
        (DataType.FLOAT, "float_val", 1.5, [1.5]),
        (DataType.DOUBLE, "double_val", 0.1, [0.1]),
        (DataType.INT8, "int_val", -128, [-128]),
        (DataType.INT16, "int_val", 300, [300]),
        (DataType.INT32, "int_val", -5, [-5]),
        (DataType.UINT8, "int_val", 255, [255]),
        (DataType.UINT16, "int_val", 65535, [65535]),
        (DataType.UINT32, "uint32_val", (1 << 32) - 1, [(1 << 32) - 1]),
        (DataType.INT64, "int64_val", -(1 << 63), [-(1 << 63)]),
        (DataType.UINT64, "uint64_val", (1 << 64) - 1, [(1 << 64) - 1]),
        (DataType.QUINT8, "int_val", 200, [200]),
        (DataType.BOOL, "bool_val", True, [True]),
        (DataType.HALF, "half_val", 1.0, [0x3C00]),
        (DataType.BFLOAT16, "half_val", -2.0, [0xC000]),
        (DataType.COMPLEX64, "scomplex_val", 1 + 2j, [1, 2]),
        (DataType.COMPLEX128, "dcomplex_val", 1 + 2j, [1, 2]),
        (DataType.STRING, "string_val", "größe", ["größe".encode()]),
    ],
)
@EVERY_ERA
def test_each_type_travels_in_the_field_that_the_gateway_reads(
    era: Era, dtype: DataType, field: str, value: Any, carried: list[Any]
) -> None:
    message = read(era, {"y": tensor(value, dtype)})["y"]

    assert message.dtype == dtype
    assert list(getattr(message, field)) == carried
    assert {one.name for one, _ in message.ListFields()} == {"dtype", "tensor_shape", field}


@EVERY_ERA
def test_a_response_always_carries_shapes(era: Era) -> None:
    shapeless = Tensor(DataType.INT64, None, np.array([1, 2], "<i8"))

    outputs = read(
        era, {"a": shapeless, "b": shapeless._replace(values=np.array([1], "<i8")), "c": tensor(np.zeros((0, 3)))}
    )

    assert {name: oracle.reading(outputs[name])[1] for name in outputs} == {"a": [2], "b": [], "c": [0, 3]}


@EVERY_ERA
def test_a_request_may_be_sent_without_a_shape_and_with_open_sizes(era: Era) -> None:
    values = np.array([1.0, 2.0])
    inputs = {"a": Tensor(DataType.DOUBLE, None, values), "b": Tensor(DataType.DOUBLE, (-1, 2), values)}

    sent = oracle.request(era, encode_request(era, Request(inputs, "predict", "digits", 3)))

    assert sent is not None
    assert {name: tensor.shape for name, tensor in sent.inputs.items()} == {"a": None, "b": (-1, 2)}
    assert sent[1:4] == {"0.0.5": ("predict", "", None), "v2": ("predict", "digits", 3), "v3": ("", "", None)}[era.name]


def test_outputs_are_written_in_their_order_and_always_the_same() -> None:
    one, two = {"b": tensor(1), "a": tensor(2)}, {"a": tensor(2), "b": tensor(1)}

    assert list(decode_response(V2, encode_response(V2, one))) == ["b", "a"]
    assert list(decode_response(V2, encode_response(V2, two))) == ["a", "b"]
    assert encode_response(V2, one) == encode_response(V2, dict(one))


@EVERY_ERA
def test_maps_carry_nested_tensors(era: Era) -> None:
    inner = map_tensor((), [{"deep": tensor("x")}])
    value = map_tensor((), [{"n": tensor(np.arange(3)), "m": inner}])

    back = decode_response(era, encode_response(era, {"y": value}))["y"]

    assert oracle.entries(read(era, {"y": value})) == oracle.ours({"y": back})
    assert back.values[0]["n"].values.tolist() == [0, 1, 2]
    assert back.values[0]["m"].values[0]["deep"].values.tolist() == [b"x"]


def test_the_first_era_carries_one_map_in_a_tensor() -> None:
    two = map_tensor((2,), [{"a": tensor(1)}, {"a": tensor(2)}])

    assert len(read(V2, {"y": two})["y"].map_val) == 2
    with pytest.raises(TensorError, match=r"expected one map, .* era 0\.0\.5 .*, got 2"):
        encode_response(ERAS["0.0.5"], {"y": two})


@pytest.mark.parametrize("count", [0, 1, 12, 13, 40, 1000, 200_000])
@EVERY_ERA
def test_arrays_of_any_size_are_read_back(era: Era, count: int) -> None:
    rng = np.random.default_rng(count)
    arrays = [
        rng.random(count).astype("<f4"),
        rng.integers(-(1 << 63), 1 << 63, count, "<i8", endpoint=False),
        rng.integers(0, 256, count).astype("u1"),
        rng.random(count) > 0.5,
        rng.random(count).astype("<f2"),
    ]

    back = decode_response(era, encode_response(era, {str(n): tensor(values) for n, values in enumerate(arrays)}))

    for n, values in enumerate(arrays):
        np.testing.assert_array_equal(back[str(n)].values, values)
        assert back[str(n)].shape == (count,)


def test_a_tensor_whose_values_could_not_be_read_is_not_written() -> None:
    with pytest.raises(TensorError, match="^because$"):
        encode_response(V2, {"y": Tensor(DataType.INVALID, (), np.empty(0, object), "because")})
