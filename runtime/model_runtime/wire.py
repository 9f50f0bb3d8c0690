"""Protobuf's wire format, as far as contracts and tensors need it. Knows no message and no era.

Standard library only, Python 3.8: the model process reads contracts and requests without protobuf. Rules follow the encoding
specification and, where it leaves a choice, what protobuf's own parser does (a differential test holds us to it).
"""

from __future__ import annotations

from typing import Iterator, Tuple, Union

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)

MAX_FIELD = (1 << 29) - 1
MAX_DEPTH = 100  # protobuf's own limit of nested messages and groups
_MASK64 = (1 << 64) - 1

Buffer = Union[bytes, bytearray, memoryview]
# (field number, wire type, value or start, end): a varint's value stands in `value` (end 0); any other field's payload is buffer[value:end].
Item = Tuple[int, int, int, int]


class WireError(ValueError):
    """Bytes that are not a protobuf message."""


def read_varint(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """The varint at `at` as an unsigned 64-bit number, and the position behind it."""
    value = shift = 0
    while at < end:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK64, at
        shift += 7
        if shift > 63:
            raise WireError(f"varint of more than 10 bytes at offset {at - 10}")
    raise WireError(f"truncated varint at offset {end}")


def read_tag(buffer: Buffer, at: int, end: int) -> Tuple[int, int, int]:
    """Field number, wire type and the position behind the tag at `at`."""
    tag, behind = read_varint(buffer, at, end)
    number = tag >> 3
    if not 0 < number <= MAX_FIELD or behind - at > 5:
        raise WireError(f"invalid tag at offset {at}")
    return number, tag & 7, behind


def read_length(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """Start and end of the length-delimited payload whose length stands at `at`."""
    size, start = read_varint(buffer, at, end)
    if size > end - start:
        raise WireError(f"truncated: {size} bytes announced at offset {at}, {end - start} are left")
    return start, start + size


def fields(buffer: Buffer, start: int = 0, end: int = -1, depth: int = 0) -> Iterator[Item]:
    """Each field of the message in buffer[start:end], in order. Groups are skipped whole, as unknown fields."""
    at = start
    end = len(buffer) if end < 0 else end
    while at < end:
        number, kind, at = read_tag(buffer, at, end)
        if kind == VARINT:
            value, at = read_varint(buffer, at, end)
            yield number, kind, value, 0
        elif kind == LENGTH:
            begin, at = read_length(buffer, at, end)
            yield number, kind, begin, at
        elif kind == GROUP:
            at = _skip_group(buffer, number, at, end, depth + 1)
        else:
            begin, at = at, _behind_fixed(kind, at, end)
            yield number, kind, begin, at


def _behind_fixed(kind: int, at: int, end: int) -> int:
    size = {FIXED64: 8, FIXED32: 4}.get(kind)
    if size is None:
        raise WireError(f"invalid wire type {kind} before offset {at}")
    if size > end - at:
        raise WireError(f"truncated: {size} bytes expected at offset {at}, {end - at} are left")
    return at + size


def _skip_group(buffer: Buffer, number: int, at: int, end: int, depth: int) -> int:
    """The position behind the group `number` whose first field stands at `at`. Iterative: nesting costs no stack."""
    open_groups = [number]
    while open_groups:
        if depth + len(open_groups) > MAX_DEPTH:
            raise WireError(f"more than {MAX_DEPTH} levels of nesting at offset {at}")
        inner, kind, at = read_tag(buffer, at, end)
        if kind == GROUP:
            open_groups.append(inner)
        elif kind == END_GROUP:
            if open_groups.pop() != inner:
                raise WireError(f"unexpected end of group before offset {at}")
        elif kind == VARINT:
            _, at = read_varint(buffer, at, end)
        elif kind == LENGTH:
            _, at = read_length(buffer, at, end)
        else:
            at = _behind_fixed(kind, at, end)
    return at


def int64(value: int) -> int:
    """An unsigned 64-bit varint read as int64."""
    return value - (1 << 64) if value >> 63 else value


def int32(value: int) -> int:
    """A varint read as int32 (or an open enum): the low 32 bits, signed."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def varint(value: int) -> bytes:
    """The varint of an int64 or uint64; negative numbers take ten bytes."""
    value &= _MASK64
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def length_field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | LENGTH) + varint(len(payload)) + payload
