"""Packed varints to numpy integers and back, vectorised. Knows no message and no field.

Up to eight bytes of a varint are handled as one 64-bit word, whose seven-bit groups are pushed together (or pulled apart) in
three steps; work goes in blocks that stay in the processor's cache and bound the memory of what comes in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOOP_BYTES = 40  # up to here a Python loop beats numpy's fixed costs
_LOOP_VALUES = 12
_BLOCK_BYTES = 1 << 16
_BLOCK_VALUES = 1 << 13
_LONGEST = 10  # bytes of a varint

_U1, _U8, _I8 = np.dtype("u1"), np.dtype("<u8"), np.dtype("<i8")


def _words(*values: int) -> NDArray[Any]:
    return np.array(values, _U8)


# By the length of a varint: the bytes of a word that belong to it; the continuation bits of these bytes.
_USED = _words(*[(1 << 8 * min(length, 8)) - 1 for length in range(_LONGEST + 1)])
_MORE = _words(*[sum(0x80 << 8 * i for i in range(min(length - 1, 8))) for length in range(_LONGEST + 1)])
_GROUPS = _words(0x7F7F7F7F7F7F7F7F)[0]
# (groups that stay, groups that move, how far): seven bits in a byte become 14 in two, 28 in four, 56 in eight.
_PUSH = [
    (*_words(0x007F007F007F007F, 0x7F007F007F007F00), _U8.type(1)),
    (*_words(0x00003FFF00003FFF, 0x3FFF00003FFF0000), _U8.type(2)),
    (*_words(0x000000000FFFFFFF, 0x0FFFFFFF00000000), _U8.type(4)),
]
_PULL = [(stay, move >> shift, shift) for stay, move, shift in reversed(_PUSH)]
_SHIFT_8TH, _SHIFT_9TH, _LOW = _U8.type(56), _U8.type(63), _U8.type((1 << 56) - 1)
_LIMITS = [_U8.type(1 << 7 * length) for length in range(1, _LONGEST)]  # the first value that needs one byte more
_COLUMNS = np.arange(_LONGEST)


# Decoding -----------------------------------------------------------------------------------------------------------


def decode(payload: wire.Buffer, start: int, end: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The varints in payload[start:end] as an array of `dtype`: bool, or an integer of 32 or 64 bits.

    As in protobuf a value is cut to its type's low bits, and a bool is whether any bit is set.
    """
    if end - start <= _LOOP_BYTES:
        return _decoded_one_by_one(payload, start, end, dtype)
    source = np.frombuffer(payload, _U1, end - start, start)
    out = np.empty(_count(source), dtype)
    at = filled = 0
    while at < len(source):
        block = _whole_varints(source[at : at + _BLOCK_BYTES], start + at)
        values = _decoded_block(block, start + at)
        out[filled : filled + len(values)] = values if dtype.kind != "b" else values != 0
        at += len(block)
        filled += len(values)
    return out


def check(payload: wire.Buffer, start: int, end: int) -> None:
    """Raise WireError unless payload[start:end] is a row of whole varints."""
    decode(payload, start, end, _U8)


def _decoded_one_by_one(payload: wire.Buffer, start: int, end: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    values: List[int] = []
    at = start
    while at < end:
        value = payload[at]
        at += 1
        if value >= 0x80:
            value, at = wire.read_varint(payload, at - 1, end)
        values.append(value)
    if dtype.kind == "b":
        return np.array([value != 0 for value in values], dtype)
    if not values or max(values) < 0x80:
        return np.array(values, dtype)
    return np.array(values, _U8).astype(dtype)


def _count(source: NDArray[Any]) -> int:
    """How many varints end in these bytes."""
    blocks = range(0, len(source), _BLOCK_BYTES)
    return sum(int(np.count_nonzero(source[at : at + _BLOCK_BYTES] < 0x80)) for at in blocks)


def _whole_varints(block: NDArray[Any], offset: int) -> NDArray[Any]:
    """The block without the varint that it cuts at its end."""
    tail = block[-_LONGEST:]
    ends = np.flatnonzero(tail < 0x80)
    if not len(ends):
        raise wire.WireError(f"varint without an end at offset {offset + len(block) - len(tail)}")
    return block[: len(block) - len(tail) + int(ends[-1]) + 1]


def _decoded_block(block: NDArray[Any], offset: int) -> NDArray[Any]:
    """The values, unsigned, of whole varints: in bytes if all are short, else in 64-bit words."""
    ends = np.flatnonzero(block < 0x80)
    if len(ends) == len(block):
        return block
    starts = np.empty(len(ends), np.intp)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    lengths = ends - starts
    lengths += 1
    longest = int(lengths.max())
    if longest > _LONGEST:
        raise wire.WireError(f"varint of more than 10 bytes at offset {offset + int(starts[int(lengths.argmax())])}")
    padded = np.zeros(len(block) + _LONGEST, _U1)
    padded[: len(block)] = block
    values = _decoded_words(_at_each(padded, starts, lengths, longest), lengths, longest)
    if longest > 8:
        _add_last_bytes(values, padded, starts, lengths)
    return values


def _at_each(padded: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any], longest: int) -> NDArray[Any]:
    """The eight bytes from each start on, as words."""
    if longest * len(starts) == len(padded) - _LONGEST:  # all of one length
        return as_strided(padded[:8].view(_U8), (len(starts),), (longest,)).copy()
    return as_strided(padded[:8].view(_U8), (len(padded) - 7,), (1,))[starts]


def _decoded_words(words: NDArray[Any], lengths: NDArray[Any], longest: int) -> NDArray[Any]:
    words &= _USED[lengths]
    words &= _GROUPS
    for (stay, move, shift), needed in zip(_PUSH, (1, 2, 4)):
        if longest > needed:
            moved = words & move
            moved >>= shift
            words &= stay
            words |= moved
    return words


def _add_last_bytes(values: NDArray[Any], padded: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any]) -> None:
    """Bytes nine and ten, which a word does not hold; what a tenth byte has above bit 63 is dropped, as protobuf does."""
    long = np.flatnonzero(lengths > 8)
    values[long] |= (padded[starts[long] + 8] & 0x7F).astype(_U8) << _SHIFT_8TH
    long = long[lengths[long] > 9]
    values[long] |= padded[starts[long] + 9].astype(_U8) << _SHIFT_9TH


# Encoding -----------------------------------------------------------------------------------------------------------


def encode(values: NDArray[Any]) -> bytes:
    """The varints of flat booleans or integers of any width, in a row; negative ones take ten bytes."""
    if len(values) <= _LOOP_VALUES:
        return b"".join(map(wire.varint, values.tolist()))
    if values.dtype.kind == "b" or (values.dtype == _U1 and int(values.max()) < 0x80):
        return values.tobytes()
    blocks = (values[at : at + _BLOCK_VALUES] for at in range(0, len(values), _BLOCK_VALUES))
    return b"".join(map(_encoded_block, blocks))


def _encoded_block(block: NDArray[Any]) -> bytes:
    unsigned = block.astype(_I8 if block.dtype.kind == "i" else _U8).view(_U8)
    top = int(unsigned.max())
    if top < 0x80:
        return unsigned.astype(_U1).tobytes()
    longest = (top.bit_length() + 6) // 7
    lengths = np.ones(len(block), _U1)
    for limit in _LIMITS[: longest - 1]:
        lengths += unsigned >= limit
    rows = np.empty((len(block), max(longest, 8)), _U1)
    rows[:, :8] = _encoded_words(unsigned & _LOW, lengths).view(_U1).reshape(-1, 8)
    if longest > 8:
        rows[:, 8] = unsigned >> _SHIFT_8TH & _U8.type(0x7F) | (lengths > 9) * _U8.type(0x80)
        rows[:, 9:] = (unsigned >> _SHIFT_9TH).astype(_U1)[:, np.newaxis]
    rows = rows[:, :longest]
    if int(lengths.min()) == longest:
        return rows.tobytes()
    return rows[_COLUMNS[:longest] < lengths[:, np.newaxis]].tobytes()


def _encoded_words(words: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """The first eight bytes of each varint, from its low 56 bits."""
    for stay, move, shift in _PULL:
        moved = words & move
        moved <<= shift
        words &= stay
        words |= moved
    words |= _MORE[lengths]
    return words
