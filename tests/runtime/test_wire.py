"""protobuf's wire format; that we accept what protobuf accepts is tested with the tensors that travel in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime import wire


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    written = wire.varint(value)

    assert wire.read_varint(written, 0, len(written)) == (value % (1 << 64), len(written))
    assert wire.int64(value % (1 << 64)) == (value if value < 1 << 63 else value - (1 << 64))


def test_negative_numbers_take_ten_bytes() -> None:
    assert wire.varint(-1) == b"\xff" * 9 + b"\x01"
    assert wire.int32(wire.read_varint(wire.varint(-5), 0, 10)[0]) == -5


def test_fields_come_in_order_with_their_values_and_places() -> None:
    message = (
        wire.varint_field(1, 300) + wire.length_field(2, b"abc") + b"\x1d1234" + b"\x2112345678" + b"\x33\x08\x01\x34"
    )

    found = list(wire.fields(message))

    assert [(number, kind) for number, kind, _, _ in found] == [(1, 0), (2, 2), (3, 5), (4, 1), (6, 3)]
    assert found[0][2:] == (300, 3)
    assert [message[start:end] for _, _, start, end in found[1:4]] == [b"abc", b"1234", b"12345678"]


def test_a_part_of_a_buffer_is_read_as_if_nothing_stood_around_it() -> None:
    message = b"\xff" + wire.length_field(1, b"x") + b"\xff"

    assert list(wire.fields(memoryview(message), 1, 4)) == [(1, wire.LENGTH, 3, 4)]
    with pytest.raises(wire.WireError, match="truncated: 1 bytes announced at offset 2, 0 are left"):
        list(wire.fields(message, 1, 3))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x08", "truncated varint at offset 1"),
        (b"\x08\x80", "truncated varint at offset 2"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "varint of more than 10 bytes at offset 1"),
        (b"\x00\x01", "invalid tag at offset 0"),
        (b"\x88\x80\x80\x80\x80\x00\x01", "invalid tag at offset 0"),
        (b"\x80\x80\x80\x80\x10\x01", "invalid tag at offset 0"),
        (b"\x0a\x03ab", "truncated: 3 bytes announced at offset 1, 2 are left"),
        (b"\x0a\x81\x80\x80\x80\x80\x00a", "invalid length at offset 1"),
        (b"\x0a\xff\xff\xff\xff\x7f", "invalid length at offset 1"),
        (b"\x0d123", "truncated: 4 bytes expected at offset 1, 3 are left"),
        (b"\x0f", "invalid wire type 7 before offset 1"),
        (b"\x0c", "invalid wire type 4 before offset 1"),
        (b"\x0b\x14", "unexpected end of group before offset 2"),
        (b"\x0b", "truncated varint at offset 1"),
        (b"\x0b" * 101, "more than 100 levels of nesting at offset 101"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_the_place(message: bytes, reason: str) -> None:
    with pytest.raises(wire.WireError, match=f"^{reason}$"):
        list(wire.fields(message))


def test_text_that_is_not_utf_8_is_refused_with_the_place() -> None:
    with pytest.raises(wire.WireError, match="not UTF-8 at offset 3"):
        wire.read_text(b"\x0a\x02a\xffb", 2, 5)


def test_a_message_of_small_fields_is_read_in_linear_time_and_no_memory() -> None:
    message = memoryview(wire.varint_field(1, 1) * 200_000)

    assert sum(value for _, _, value, _ in wire.fields(message)) == 200_000
