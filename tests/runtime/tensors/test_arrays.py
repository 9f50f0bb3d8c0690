"""From a tensor to the array that a model receives: shapes resolved or refused, text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.contract.types import DataType
from model_runtime.tensors import Tensor, TensorError, array, text
from model_runtime.tensors.tensor import objects

Shape = tuple[int, ...] | None


def resolved(shape: Shape, dims: Shape, count: int) -> tuple[int, ...]:
    return array(Tensor(DataType.INT64, shape, np.arange(count)), dims).shape


@pytest.mark.parametrize(
    ("shape", "dims", "count", "expected"),
    [
        pytest.param((2, 3), (-1, 3), 6, (2, 3), id="known"),
        pytest.param((2, 3), (7, 7), 6, (2, 3), id="the contract is not checked here"),
        pytest.param((), (), 1, (), id="scalar"),
        pytest.param((-1, 2), None, 4, (2, 2), id="one open size"),
        pytest.param((-1, 3), None, 0, (0, 3), id="one open size of nothing"),
        pytest.param((-1, -1, 3), (-1, 4, 3), 24, (2, 4, 3), id="filled from the contract"),
        pytest.param((-1, -1), (-1, 4, 3), 1, (1, 1), id="ranks differ, only ones fit"),
        pytest.param((-1, -1), None, 1, (1, 1), id="only ones fit"),
        pytest.param((-1, -1, 5), None, 5, (1, 1, 5), id="only ones fit beside a known size"),
        pytest.param((0, 7), None, 0, (0, 7), id="empty"),
        pytest.param((-1, 0), (4, 0), 0, (4, 0), id="empty, filled from the contract"),
        pytest.param(None, (), 1, (), id="no shape, contract scalar"),
        pytest.param(None, (-1, 2), 4, (2, 2), id="no shape, contract infers"),
        pytest.param(None, (2, 2), 4, (2, 2), id="no shape, contract knows"),
        pytest.param(None, None, 1, (), id="no shape anywhere, one value"),
        pytest.param(None, None, 4, (4,), id="no shape anywhere, values"),
        pytest.param(None, None, 0, (0,), id="no shape anywhere, nothing"),
        pytest.param((1,) * 32, None, 1, (1,) * 32, id="as many dims as numpy has"),
    ],
)
def test_a_shape_is_resolved(shape: Shape, dims: Shape, count: int, expected: tuple[int, ...]) -> None:
    assert resolved(shape, dims, count) == expected


@pytest.mark.parametrize(
    ("shape", "dims", "count", "reason"),
    [
        ((2, 3), None, 5, r"expected 6 values for shape \[2, 3\], got 5"),
        ((), None, 0, r"expected 1 values for shape \[\], got 0"),
        ((), (-1,), 4, r"expected 1 values for shape \[\], got 4"),
        (None, (), 4, r"expected 1 values for shape \[\], got 4"),
        ((4,), None, 1, r"expected 4 values for shape \[4\], got 1"),
        ((-1, 3), None, 4, r"expected a multiple of 3 values for shape \[-1, 3\], got 4"),
        (
            (-1, -1, 3),
            None,
            12,
            r"expected one unknown size, got shape \[-1, -1, 3\] and 12 values: several sizes would fit",
        ),
        (None, (-1, -1), 4, r"expected one unknown size, got shape \[-1, -1\] and 4 values: several sizes would fit"),
        ((-1, 0), None, 0, r"expected values or known sizes, got none for shape \[-1, 0\]: any size would fit"),
        ((-1, -1), None, 0, r"expected values or known sizes, got none for shape \[-1, -1\]: any size would fit"),
        ((-1, 0), None, 3, r"expected a multiple of 0 values for shape \[-1, 0\], got 3"),
        ((-2, 3), None, 6, r"expected dimensions of -1 \(unknown\) or more, got \[-2, 3\]"),
        ((1 << 62, 4), None, 4, rf"expected {1 << 64} values for shape \[{1 << 62}, 4\], got 4"),
        ((-(1 << 63), 2), None, 2, r"expected dimensions of -1 \(unknown\) or more, got .*"),
        ((1 << 62, 0), None, 0, r"expected a shape that numpy can hold, got .*"),
        ((1,) * 33, None, 1, "expected at most 32 dimensions, got more"),
    ],
)
def test_a_shape_that_is_not_certain_is_refused_with_the_reason(
    shape: Shape, dims: Shape, count: int, reason: str
) -> None:
    with pytest.raises(TensorError, match=f"^{reason}$"):
        resolved(shape, dims, count)


sizes = st.integers(-2, 4) | st.sampled_from([1 << 31, 1 << 62, (1 << 63) - 1, -(1 << 63)])
shapes = st.none() | st.lists(sizes, max_size=5).map(tuple)


@given(shapes, shapes, st.integers(0, 24))
def test_whatever_comes_is_an_array_of_all_the_values_or_a_tensor_error(shape: Shape, dims: Shape, count: int) -> None:
    try:
        found = resolved(shape, dims, count)
    except TensorError:
        return
    assert int(np.prod(found)) == count
    assert shape is None or all(wanted in (-1, size) for wanted, size in zip(shape, found, strict=True))


def test_values_are_copied_only_where_a_model_could_not_write_them() -> None:
    fixed = Tensor(DataType.DOUBLE, (2,), np.frombuffer(bytes(16), "<f8"))
    own = Tensor(DataType.DOUBLE, (2,), np.zeros(2))
    unaligned = Tensor(DataType.DOUBLE, (2,), np.frombuffer(bytearray(17), "<f8", 2, 1))

    assert not array(fixed).flags.writeable
    assert array(fixed, writable=True).flags.writeable
    assert np.shares_memory(array(own, writable=True), own.values)
    assert array(unaligned, writable=True).flags.aligned


# Text ---------------------------------------------------------------------------------------------------------------


def strings(*values: bytes) -> np.ndarray:
    return objects(list(values))


def test_text_is_numpys_as_hydrosdk_gave_it() -> None:
    found = text(strings("größe".encode(), b"").reshape(2, 1))

    assert found.dtype == "<U5"
    assert found.tolist() == [["größe"], [""]]
    assert text(strings(b"one").reshape(())).item() == "one"
    assert isinstance(text(strings(b"one").reshape(()))[()], np.str_)
    assert text(strings()).shape == (0,)


def test_text_that_numpy_would_cut_is_an_array_of_str() -> None:
    found = text(strings(b"a\0", b"b"))

    assert found.dtype == object
    assert found.tolist() == ["a\0", "b"]


def test_one_long_text_among_many_short_ones_does_not_multiply_its_memory() -> None:
    found = text(strings(b"x" * 100_000, *[b"y"] * 10_000))

    assert found.dtype == object
    assert found[1] == "y"


def test_bytes_that_are_not_utf_8_are_refused_naming_the_place() -> None:
    with pytest.raises(
        TensorError,
        match=r"^expected UTF-8 text, got byte 0xff at offset 1 of the string at \[1\]"
        r" \(a string field of profile image, audio or video takes any bytes\)$",
    ):
        text(strings(b"fine", b"a\xff"))
    assert text(strings(b"a\xff"), binary=True).tolist() == [b"a\xff"]


@given(st.lists(st.text(max_size=5), max_size=8))
def test_text_survives_whatever_it_is(texts: list[str]) -> None:
    assert text(strings(*[one.encode() for one in texts])).tolist() == texts
