"""Protobuf's wire format, as far as contracts and tensors need it. Knows no message and no era.

Standard library only, Python 3.8: the model process reads contracts and requests without protobuf. Rules follow the encoding
specification and, where it leaves a choice, what protobuf's own parser (upb) does; a differential test holds us to it.
"""

from __future__ import annotations

from typing import Iterator, List, Tuple, Union

VARINT, FIXED64, LENGTH, GROUP, END_GROUP, FIXED32 = range(6)

MAX_DEPTH = 100  # protobuf's own limit of messages and groups inside one another, the outermost included
MAX_FIELD = (1 << 29) - 1
MAX_FIELDS = 1 << 18  # of a request: reading so many takes about a quarter of a second
MAX_STRINGS = 1 << 20  # of a request: each takes about 100 bytes of memory until the model has its array
_MAX_TAG = (1 << 32) - 1
_MAX_LENGTH = (1 << 31) - 1
_MASK64 = (1 << 64) - 1
_SHORT_VARINTS = [bytes((value,)) for value in range(0x80)]

Buffer = Union[bytes, bytearray, memoryview]
# (field number, wire type, value or start, end): a varint's value, unsigned, or where the payload of any other field starts; and
# where the field ends.
Item = Tuple[int, int, int, int]


class WireError(ValueError):
    """Bytes that are not a protobuf message."""


class TooMany(WireError):
    """A message that protobuf would read, of more parts than are read here: what was expected at most."""


class Budget:
    """How many more parts of one message are read. Work in Python is bounded by it, whatever the bytes are.

    A field that is read by itself is one part. Callers charge more for what costs more, and nothing for runs that numpy reads.
    """

    __slots__ = ("left", "strings")

    def __init__(self, fields: int, strings: int) -> None:
        self.left, self.strings = fields, strings

    def spend(self, parts: int) -> None:
        self.left -= parts
        if self.left < 0:
            raise TooMany(f"expected at most {MAX_FIELDS} fields that are not values of one packed tensor, got more")

    def spend_strings(self, count: int) -> None:
        self.strings -= count
        if self.strings < 0:
            raise TooMany(f"expected at most {MAX_STRINGS} strings, got more")


def request_budget() -> Budget:
    """What one request may cost."""
    return Budget(MAX_FIELDS, MAX_STRINGS)


UNBOUNDED = Budget(1 << 62, 1 << 62)  # for what a server or a model of ours has written


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


def read_tag(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """The tag at `at` (field number << 3 | wire type) and the position behind it."""
    tag, behind = _read_any_tag(buffer, at, end)
    if tag < 8:
        raise WireError(f"invalid tag at offset {at}")
    return tag, behind


def _read_any_tag(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    tag, behind = read_varint(buffer, at, end)
    if tag > _MAX_TAG or behind - at > 5:
        raise WireError(f"invalid tag at offset {at}")
    return tag, behind


def read_length(buffer: Buffer, at: int, end: int) -> Tuple[int, int]:
    """Start and end of the length-delimited payload whose length stands at `at`."""
    size, start = read_varint(buffer, at, end)
    if size > _MAX_LENGTH or start - at > 5:
        raise WireError(f"invalid length at offset {at}")
    if size > end - start:
        raise WireError(f"truncated: {size} bytes announced at offset {at}, {end - start} are left")
    return start, start + size


def read_text(buffer: Buffer, start: int, end: int) -> str:
    """The string in buffer[start:end]; protobuf refuses a message whose strings are not UTF-8."""
    try:
        return str(buffer[start:end], "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"a string that is not UTF-8 at offset {start + error.start}") from None


def fields(buffer: Buffer, start: int = 0, end: int = -1, depth: int = 0, budget: Budget = UNBOUNDED) -> Iterator[Item]:
    """Each field of the message in buffer[start:end], in order; a group, which no message of ours has, whole as one item.

    `depth` is how many messages are around this one; raises WireError at the first byte that protobuf would refuse.
    """
    at = start
    end = len(buffer) if end < 0 else end
    if depth > MAX_DEPTH:
        raise WireError(f"more than {MAX_DEPTH} levels of nesting at offset {at}")
    budget.left -= 1
    while at < end:
        budget.left -= 1
        if budget.left < 0:
            budget.spend(0)
        tag = buffer[at]
        if 8 <= tag < 0x80:  # the hot path: one byte each for the tag and the varint behind it
            at += 1
        else:
            tag, at = read_tag(buffer, at, end)
        kind = tag & 7
        if kind == LENGTH:
            if at < end and buffer[at] <= end - at - 1 and buffer[at] < 0x80:
                begin = at + 1
                at = begin + buffer[at]
            else:
                begin, at = read_length(buffer, at, end)
            yield tag >> 3, kind, begin, at
        elif kind == VARINT:
            if at < end and buffer[at] < 0x80:
                value = buffer[at]
                at += 1
            else:
                value, at = read_varint(buffer, at, end)
            yield tag >> 3, kind, value, at
        elif kind == GROUP:
            begin, at = at, _skip_group(buffer, tag >> 3, at, end, depth, budget)
            yield tag >> 3, kind, begin, at
        else:
            begin, at = at, _behind_fixed(kind, at, end)
            yield tag >> 3, kind, begin, at


def row(buffer: Buffer, at: int, end: int, number: int, budget: Budget = UNBOUNDED) -> Tuple[List[bytes], int]:
    """The payloads of the length-delimited fields `number` (up to 15) that stand in a row from `at` on, and where that ends.

    What `fields` gives one by one, for the fields that come by the thousand.
    """
    tag = number << 3 | LENGTH
    payloads: List[Buffer] = []
    most = budget.strings
    while at < end and buffer[at] == tag and len(payloads) <= most:
        begin = at + 2
        if begin <= end and buffer[at + 1] < 0x80 and buffer[at + 1] <= end - begin:
            at = begin + buffer[at + 1]
        else:
            begin, at = read_length(buffer, at + 1, end)
        payloads.append(buffer[begin:at])
    budget.spend_strings(len(payloads))
    return payloads if isinstance(buffer, bytes) else list(map(bytes, payloads)), at  # type: ignore[return-value]


def _behind_fixed(kind: int, at: int, end: int) -> int:
    size = {FIXED64: 8, FIXED32: 4}.get(kind)
    if size is None:
        raise WireError(f"invalid wire type {kind} before offset {at}")
    if size > end - at:
        raise WireError(f"truncated: {size} bytes expected at offset {at}, {end - at} are left")
    return at + size


def _skip_group(buffer: Buffer, number: int, at: int, end: int, depth: int, budget: Budget) -> int:
    """The position behind the group `number` whose first field stands at `at`. Iterative: nesting costs no stack."""
    open_groups = [number]
    while open_groups:
        if depth + len(open_groups) > MAX_DEPTH:
            raise WireError(f"more than {MAX_DEPTH} levels of nesting at offset {at}")
        budget.spend(1)
        tag, at = _read_any_tag(buffer, at, end)  # within a group protobuf lets even field number 0 pass
        kind = tag & 7
        if kind == GROUP:
            open_groups.append(tag >> 3)
        elif kind == END_GROUP:
            if open_groups.pop() != tag >> 3:
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
        return _SHORT_VARINTS[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def length_header(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of a length-delimited field."""
    return varint(number << 3 | LENGTH) + varint(size)


def length_field(number: int, payload: bytes) -> bytes:
    return length_header(number, len(payload)) + payload
