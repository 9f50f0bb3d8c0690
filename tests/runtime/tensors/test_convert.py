"""From what a model returned to the declared type: lossless, or refused with what was expected and what came."""

import re
import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_runtime.contract.types import DataType
from model_runtime.tensors import TensorError, array, dtype_of, map_tensor, mappings, tensor, text
from model_runtime.tensors.tensor import NUMPY

T = DataType


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, T.INT64),
        (0.5, T.DOUBLE),
        (True, T.BOOL),
        (1j, T.COMPLEX128),
        ("text", T.STRING),
        (b"bytes", T.STRING),
        (np.int32(4), T.INT32),
        (np.float16(4), T.HALF),
        (np.complex64(1), T.COMPLEX64),
        (np.zeros((2, 3), "f4"), T.FLOAT),
        (np.zeros(2, ">u2"), T.UINT16),
        (np.longlong(1), T.INT64),
        ([1, 2], T.INT64),
        ([1, 2.5], T.DOUBLE),
        (["a", "b"], T.STRING),
        (np.array(["a"]), T.STRING),
        (np.array([b"a"]), T.STRING),
        (np.array(["a", b"b"], object), T.STRING),
        ({"a": 1}, T.MAP),
        ([{"a": 1}], T.MAP),
    ],
)
def test_a_value_of_no_declared_type_has_its_own(value: Any, dtype: DataType) -> None:
    assert dtype_of(value) is dtype
    if dtype is not T.MAP:
        assert tensor(value).dtype is dtype
        assert tensor(value, T.ANY).dtype is dtype


@pytest.mark.parametrize(
    "value",
    [None, object(), Decimal(1), np.datetime64("2020"), np.longdouble(1), [None], np.zeros(1, "i4,f4")],
    ids=repr,
)
def test_a_value_that_no_tensor_carries_has_no_type(value: Any) -> None:
    with pytest.raises(TensorError, match="expected numbers, strings or mappings, got "):
        dtype_of(value)
    with pytest.raises(TensorError, match="expected .*, got "):
        tensor(value)


def test_an_empty_list_is_one_of_floats_as_in_numpy() -> None:
    assert dtype_of([]) is T.DOUBLE


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (3, T.INT32, 3),
        (-128, T.INT8, -128),
        ((1 << 64) - 1, T.UINT64, (1 << 64) - 1),
        (True, T.INT32, 1),
        (True, T.FLOAT, 1.0),
        (3, T.FLOAT, 3.0),
        (1 << 24, T.FLOAT, float(1 << 24)),
        (0.1, T.FLOAT, float(np.float32(0.1))),
        (0.1, T.HALF, float(np.float16(0.1))),
        (float("inf"), T.FLOAT, float("inf")),
        (2.5, T.COMPLEX64, 2.5 + 0j),
        (1j, T.COMPLEX64, 1j),
        (np.float32(0.1), T.DOUBLE, float(np.float32(0.1))),
        (np.float64(0.5), T.FLOAT, 0.5),
        ([0.1, 1], T.FLOAT, [float(np.float32(0.1)), 1.0]),
        ([[1, 2], [3, 4]], T.INT8, [[1, 2], [3, 4]]),
        ((1, 2), T.INT32, [1, 2]),
        (np.arange(6).reshape(2, 3).T, T.INT32, [[0, 3], [1, 4], [2, 5]]),
        (np.arange(10)[::3], T.INT16, [0, 3, 6, 9]),
        (np.array([1, 2], ">i4"), T.INT32, [1, 2]),
        (np.array(7), T.INT32, 7),
        (np.zeros((0, 3)), T.FLOAT, []),
        (np.zeros((0, 3)), T.INT8, TensorError),
        (np.array([1.5, np.nan, -np.inf]), T.FLOAT, None),
        (1.0, T.BFLOAT16, 1.0),
        (0.1, T.BFLOAT16, 0.10009765625),
        (np.float32(-3.0), T.BFLOAT16, -3.0),
        (np.longdouble(0.5), T.DOUBLE, 0.5),
    ],
)
def test_a_number_becomes_the_declared_type_where_it_survives(value: Any, dtype: DataType, expected: Any) -> None:
    if expected is TensorError:  # even an empty float array is no integer array: the type is what is wrong
        with pytest.raises(TensorError, match="expected int8, got double"):
            tensor(value, dtype)
        return
    made = tensor(value, dtype)

    assert made.dtype is dtype
    assert made.values.dtype == NUMPY[dtype]
    assert made.shape == np.shape(value)
    if expected is not None:
        assert array(made).tolist() == expected


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (3_000_000_000, T.INT32, "expected int32, got 3000000000 which int32 cannot hold"),
        (np.array([1, 3_000_000_000]), T.INT32, "expected int32, got int64 3000000000 at [1] which int32 cannot hold"),
        ([[1], [-1]], T.UINT8, "expected uint8, got int64 -1 at [1,0] which uint8 cannot hold"),
        (1 << 64, T.INT64, "expected int64, got 18446744073709551616 which int64 cannot hold"),
        (1 << 64, T.INVALID, "expected int64, got 18446744073709551616 which int64 cannot hold"),
        (
            np.array([1 << 63], "u8"),
            T.INT64,
            "expected int64, got uint64 9223372036854775808 at [0] which int64 cannot hold",
        ),
        ((1 << 24) + 1, T.FLOAT, "expected float32, got int64 16777217 which float32 cannot hold"),
        (
            np.array([(1 << 63) - 1]),
            T.DOUBLE,
            "expected double, got int64 9223372036854775807 at [0] which double cannot hold",
        ),
        (
            np.array([(1 << 64) - 1], "u8"),
            T.DOUBLE,
            "expected double, got uint64 18446744073709551615 at [0] which double cannot hold",
        ),
        (70000, T.HALF, "expected half, got int64 70000 which half cannot hold"),
        (np.array([0.5, 0.1]), T.FLOAT, "expected float32, got double 0.1 at [1] which float32 cannot hold"),
        (np.float64(0.1), T.FLOAT, "expected float32, got double 0.1 which float32 cannot hold"),
        (1e300, T.FLOAT, "expected float32, got double 1e+300 which float32 cannot hold"),
        ([1e300], T.FLOAT, "expected float32, got double 1e+300 at [0] which float32 cannot hold"),
        (1e300j, T.COMPLEX64, "expected complex64, got complex128 1e+300j which complex64 cannot hold"),
        (np.float32(0.1), T.BFLOAT16, "expected bfloat16, got float32 0.1 which bfloat16 cannot hold"),
        (3.4e38, T.HALF, "expected half, got double 3.4e+38 which half cannot hold"),
        (3.0, T.INT64, "expected int64, got double"),
        (np.zeros((2, 3), "f4"), T.INT64, "expected int64, got float32[2,3]"),
        (1, T.BOOL, "expected bool, got int64"),
        (1j, T.DOUBLE, "expected double, got complex128"),
        (None, T.DOUBLE, "expected double, got None"),
        ("1", T.DOUBLE, "expected double, got str"),
        (np.array(["1"]), T.DOUBLE, "expected double, got string[1]"),
        ({"a": 1}, T.DOUBLE, "expected double, got dict"),
        (np.array([None, 1], object), T.DOUBLE, "expected double, got object[2] of None"),
        (1, T.STRING, "expected string, got int64"),
        ([1], T.STRING, "expected string, got int at [0]"),
        (["a", None], T.STRING, "expected string, got None at [1]"),
        (None, T.STRING, "expected string, got None at []"),
        (["a", ["b"]], T.STRING, "expected string, got list at [1]"),
        ("\ud800", T.STRING, "expected string, got text that UTF-8 cannot hold at []"),
        (1, T.MAP, "expected a type of numbers or strings, got map"),
        (
            np.ma.masked_array([1, 2], [True, False]),
            T.INT64,
            "expected int64, got a masked array, whose masked elements have no value",
        ),
    ],
)
def test_a_value_that_would_not_survive_is_refused_with_what_came(value: Any, dtype: DataType, message: str) -> None:
    with pytest.raises(TensorError, match=re.escape(message)):
        tensor(value, dtype)


@pytest.mark.parametrize("dtype", [T.INT64, T.DOUBLE, T.INVALID])
def test_unequal_lists_are_no_array(dtype: DataType) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TensorError, match="expected .*, got "):
            tensor([[1, 2], [3]], dtype)


@given(
    hnp.arrays(
        st.sampled_from(["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]),
        hnp.array_shapes(),
    ),
    st.sampled_from(sorted(NUMPY)),
)
def test_no_array_is_ever_changed_by_its_conversion(value: Any, dtype: DataType) -> None:
    try:
        made = tensor(value, dtype)
    except TensorError:
        return
    back = array(made)

    assert back.shape == value.shape
    for came, went in zip(value.ravel().tolist(), back.ravel().tolist(), strict=True):
        assert came == went or (came != came and went != went)


@given(st.floats() | st.lists(st.floats(), max_size=5), st.sampled_from([T.FLOAT, T.HALF, T.BFLOAT16]))
def test_pythons_own_floats_are_rounded_to_the_nearest_and_stay_finite(value: Any, dtype: DataType) -> None:
    limit = {T.FLOAT: 3.4e38, T.HALF: 65504.0, T.BFLOAT16: 3.38e38}[dtype]
    relative = {T.FLOAT: 2**-24, T.HALF: 2**-11, T.BFLOAT16: 2**-8}[dtype]
    if any(limit < abs(one) < float("inf") for one in np.ravel(value)):
        return
    for came, went in zip(np.ravel(value).tolist(), tensor(value, dtype).values.tolist(), strict=True):
        assert went == pytest.approx(came, rel=relative * 1.01, abs=1e-7 if dtype is T.HALF else 1e-40, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "shape", "payloads"),
    [
        ("größe", (), ["größe".encode()]),
        (b"\xff\0", (), [b"\xff\0"]),
        (np.str_("a"), (), [b"a"]),
        (np.array("a"), (), [b"a"]),
        (["a\0", b"b"], (2,), [b"a\0", b"b"]),
        (np.array([["a"], ["bc"]]), (2, 1), [b"a", b"bc"]),
        (np.array([b"a", b"bc"]), (2,), [b"a", b"bc"]),
        (np.array(["a", b"\xff"], object), (2,), [b"a", b"\xff"]),
        (np.empty((0, 2), "U1"), (0, 2), []),
        ([], (0,), []),
    ],
)
def test_strings_come_as_str_bytes_and_arrays_of_them(value: Any, shape: Any, payloads: list[bytes]) -> None:
    made = tensor(value, T.STRING)

    assert made.shape == shape
    assert made.values.tolist() == payloads


def test_text_that_came_goes_back_unchanged() -> None:
    came = tensor(["a\0", "größe"], T.STRING)

    assert tensor(text(array(came)), T.STRING).values.tolist() == came.values.tolist()


def test_maps_are_one_mapping_or_an_array_of_them() -> None:
    assert mappings({"a": 1}) == ((), [{"a": 1}])
    assert mappings([{"a": 1}, {"a": 2}]) == ((2,), [{"a": 1}, {"a": 2}])
    assert mappings(np.array([[{"a": 1}]], object))[0] == (1, 1)
    with pytest.raises(TensorError, match=r"expected mappings of nested fields, got int at \[1\]"):
        mappings([{}, 3])
    with pytest.raises(TensorError, match=r"expected mappings of nested fields, got None at \[\]"):
        mappings(None)

    made = map_tensor((1,), [{"a": tensor(1)}])

    assert array(made)[0]["a"].values.tolist() == [1]
