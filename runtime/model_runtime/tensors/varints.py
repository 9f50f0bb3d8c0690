"""Packed varints to numpy integers and back, vectorised. Knows no message and no field.

A varint of up to eight bytes is handled as one word of 16, 32 or 64 bits, whose seven-bit groups are pushed together (or pulled
apart) in one to three steps; work goes in blocks that stay in the processor's cache and bound what is needed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, NamedTuple, Tuple

import numpy as np

from .. import wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOOP_BYTES = 40  # up to here a Python loop beats numpy's fixed costs
_LOOP_VALUES = 12
_BLOCK_BYTES = 1 << 17
_BLOCK_VALUES = 1 << 14
_LONGEST = 10  # bytes of a varint

_U1, _U2, _U8, _I8 = np.dtype("u1"), np.dtype("<u2"), np.dtype("<u8"), np.dtype("<i8")


class _Word(NamedTuple):
    """Varints of up to `size` bytes in words of that size."""

    size: int
    dtype: np.dtype[Any]
    groups: Any  # the seven bits of each byte that carry the value
    more: Any  # the eighth, which says that another byte follows
    # For each step: groups that stay, groups that move, how far. 7 bits in a byte become 14 in two, 28 in four, 56 in eight.
    steps: Tuple[Tuple[Any, Any, Any], ...]
    one: Any


def _word(size: int) -> _Word:
    dtype = np.dtype(f"<u{size}")

    def repeated(pattern: int, width: int) -> Any:
        return dtype.type(sum(pattern << 8 * at for at in range(0, size, width)))

    steps = [(width, (1 << 7 * width // 2) - 1, width // 2) for width in (2, 4, 8) if width <= size]
    return _Word(
        size,
        dtype,
        repeated(0x7F, 1),
        repeated(0x80, 1),
        tuple(
            (repeated(low, width), repeated(low << 4 * width, width), dtype.type(shift)) for width, low, shift in steps
        ),
        dtype.type(1),
    )


_WORDS = {length: _word(2 if length <= 2 else 4 if length <= 4 else 8) for length in range(1, _LONGEST + 1)}
_SHIFT_8TH, _SHIFT_9TH, _LOW = _U8.type(56), _U8.type(63), _U8.type((1 << 56) - 1)


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
        out[filled : filled + len(values)] = values  # numpy cuts to the low bits, and to a bool whether any is set
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
    """The values, unsigned, of whole varints."""
    ends = np.flatnonzero(block < 0x80)
    if len(ends) == len(block):
        return block
    starts = np.empty(len(ends), np.intp)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    lengths = ends - starts
    longest = int(lengths.max()) + 1
    if longest > _LONGEST:
        raise wire.WireError(f"varint of more than 10 bytes at offset {offset + int(starts[int(lengths.argmax())])}")
    word = _WORDS[longest]
    padded = np.zeros(len(block) + _LONGEST, _U1)
    padded[: len(block)] = block
    if longest * len(starts) == len(block):  # all of one length
        words = np.ndarray(len(starts), word.dtype, padded, 0, longest).copy()
    else:
        words = np.ndarray(len(block), word.dtype, padded, 0, 1)[starts]  # a word at every byte
    values = _pushed(words, word)
    if longest > 8:
        tails = np.ndarray(len(block), _U2, padded, 8, 1)[starts]
        values |= _last_bits(tails, lengths).astype(_U8) << _SHIFT_8TH
    return values


def _pushed(words: NDArray[Any], word: _Word) -> NDArray[Any]:
    """The values of words that begin with a varint. (All bits up to the lowest set one of `x` are those of `x ^ x - 1`.)"""
    last = ~words
    last &= word.more
    last ^= last - word.dtype.type(1)
    last &= word.groups
    words &= last
    for stay, move, shift in word.steps:
        moved = words & move
        moved >>= shift
        words &= stay
        words |= moved
    return words


def _last_bits(tails: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Bits 56 to 63, from bytes nine and ten where there are any; what a tenth byte has above them is dropped, as in protobuf."""
    tenth = tails >> _U2.type(8)
    tenth &= tails >> _U2.type(7)
    tenth &= _U2.type(1)
    tenth <<= _U2.type(7)
    tails &= _U2.type(0x7F)
    tails |= tenth
    tails *= lengths >= 8
    return tails


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
    unsigned = block.astype(_I8).view(_U8) if block.dtype.kind == "i" else block
    top = int(unsigned.max())
    if top < 0x80:
        return unsigned.astype(_U1).tobytes()
    longest = (top.bit_length() + 6) // 7
    word = _WORDS[longest]
    words = _pulled((unsigned & _LOW if longest > 8 else unsigned).astype(word.dtype), word)
    words |= _continued(words, word)
    if longest > 8:
        words |= (unsigned > _LOW) * word.more
    rows, used = _bytes(words), _bytes((words & word.more) << word.one | word.one)
    if longest > 8:
        rows, used = _with_last_bytes(rows, used, unsigned)
    one_length = int(unsigned.min()) >> 7 * (longest - 1) > 0
    encoded: bytes = (rows[:, :longest] if one_length else rows[used.view("?")]).tobytes()
    return encoded


def _pulled(words: NDArray[Any], word: _Word) -> NDArray[Any]:
    """Words with seven bits of the value in each byte."""
    for stay, move, shift in reversed(word.steps):
        moved = words << shift
        moved &= move
        words &= stay
        words |= moved
    return words


def _continued(words: NDArray[Any], word: _Word) -> NDArray[Any]:
    """The eighth bit of each byte that has a bit set in any byte above it."""
    above: NDArray[Any] = words >> word.dtype.type(8)
    for _, _, shift in word.steps:
        above |= above >> word.dtype.type(8 * int(shift))
    above += word.groups
    above &= word.more
    return above


def _bytes(words: NDArray[Any]) -> NDArray[Any]:
    return words.view(_U1).reshape(len(words), -1)


def _with_last_bytes(
    rows: NDArray[Any], used: NDArray[Any], unsigned: NDArray[Any]
) -> Tuple[NDArray[Any], NDArray[Any]]:
    """Bytes nine and ten beside the eight of the word."""
    tenth = (unsigned >> _SHIFT_9TH).astype(_U1)
    ninth = (unsigned >> _SHIFT_8TH).astype(_U1)
    rows = np.column_stack((rows, ninth & 0x7F | tenth << 7, tenth))
    return rows, np.column_stack((used, ninth > 0, tenth))
