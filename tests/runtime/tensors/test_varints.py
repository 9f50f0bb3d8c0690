"""Vectorised varints against the one-by-one reading of `wire`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime import wire
from model_runtime.tensors import varints

# Every length, and every pattern of empty and full seven-bit groups within it.
EDGES = sorted({bits << 7 * group for bits in (0, 1, 127) for group in range(9)} | {(1 << n) - 1 for n in range(65)})
PATTERNS = sorted({a | b for a in EDGES for b in EDGES if a | b < 1 << 64})
values = st.sampled_from(PATTERNS) | st.integers(0, (1 << 64) - 1) | st.integers(0, 300)
DTYPES = ["?", "<i4", "<u4", "<i8", "<u8"]


def one_by_one(payload: bytes, dtype: str) -> list[int]:
    found, at = [], 0
    while at < len(payload):
        value, at = wire.read_varint(payload, at, len(payload))
        found.append(value)
    meaning = {"?": bool, "<i4": wire.int32, "<u4": lambda value: value & 0xFFFFFFFF, "<i8": wire.int64, "<u8": int}[
        dtype
    ]
    return [meaning(value) for value in found]  # type: ignore[operator]


@pytest.mark.parametrize("dtype", DTYPES)
@given(numbers=st.lists(values, max_size=120), pad=st.booleans())
def test_decoding_many_at_once_is_decoding_one_by_one(dtype: str, numbers: list[int], pad: bool) -> None:
    payload = b"".join(map(wire.varint, numbers))
    payload += b"\x80\x80\x00" * 9 + b"\xff" * 9 + b"\x7e" if pad else b""

    found = varints.decode(b"__" + payload + b"__", 2, 2 + len(payload), np.dtype(dtype))

    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == one_by_one(payload, dtype)


@given(numbers=st.lists(values, max_size=80))
def test_encoding_many_at_once_is_encoding_one_by_one(numbers: list[int]) -> None:
    array = np.array(numbers, "<u8")

    for values in (
        array,
        array.view("<i8"),
        array.astype("<u4"),
        array.astype("<i4"),
        array.astype("i1"),
        array.astype("u1"),
        array > 9,
    ):
        assert varints.encode(values) == b"".join(map(wire.varint, values.tolist()))


def test_every_pattern_of_groups_survives() -> None:
    for longest in range(1, 65, 7):  # each word size on its own, so that short ones are not widened by long neighbours
        numbers = np.array([value for value in PATTERNS if value < 1 << longest] * 2, "<u8")
        encoded = varints.encode(numbers)

        assert encoded == b"".join(map(wire.varint, numbers.tolist()))
        np.testing.assert_array_equal(varints.decode(encoded, 0, len(encoded), np.dtype("<u8")), numbers)


@pytest.mark.parametrize("low", [0, 1, 100, 1 << 13, 1 << 20, 1 << 34, 1 << 55, 1 << 62, -1000])
def test_long_rows_of_mixed_and_of_equal_lengths_survive(low: int) -> None:
    numbers = np.random.default_rng(1).integers(low, low + 50, 150_000)
    encoded = varints.encode(numbers)

    assert encoded[:5000].startswith(b"".join(map(wire.varint, numbers[:400].tolist())))
    np.testing.assert_array_equal(varints.decode(encoded, 0, len(encoded), np.dtype("<i8")), numbers)


@pytest.mark.parametrize("length", [1, 39, 41, 1000, 300_000])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_a_varint_of_eleven_bytes_or_without_an_end_is_found_anywhere(length: int, at: float) -> None:
    place = int(length * at)
    before, behind = b"\x01" * place, b"\x01" * (length - place)

    for bad in (b"\x80" * 10 + b"\x01", b"\x80" * 400_000 + b"\x01"):
        with pytest.raises(wire.WireError, match=r"varint"):
            varints.check(before + bad + behind, 0, length + len(bad))
    with pytest.raises(wire.WireError, match=r"varint"):
        varints.check(before + behind + b"\x80", 0, length + 1)
