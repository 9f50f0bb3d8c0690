"""Values of a repeated field that stand one by one, each with its tag, read by numpy. Knows no message.

Writers of proto2, and some of today, send numbers in this way. Whoever wants to cost time does so too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Tuple

import numpy as np

from .. import wire

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = 64  # what one run costs, in fields: numpy's fixed costs, if it is short
_FIRST_BYTES, _MOST_BYTES = 256, 1 << 18  # of one step; a short run must not cost what the whole message does
_U1 = np.dtype("u1")

Run = Tuple[bytes, int]  # the values without their tags, and where they end


def fixed(data: wire.Buffer, at: int, end: int, tag: bytes, width: int) -> Iterator[Run]:
    """Values of `width` bytes."""
    stride, size = len(tag) + width, _FIRST_BYTES
    wanted = np.frombuffer(tag, _U1)
    while True:
        count = min(size, end - at) // stride
        if not count:
            return
        rows = np.frombuffer(data, _U1, count * stride, at).reshape(count, stride)
        good = _leading((rows[:, : len(tag)] == wanted).all(axis=1))
        at += good * stride
        yield rows[:good, len(tag) :].tobytes(), at
        if good < count:
            return
        size = min(4 * size, _MOST_BYTES)


def varints(data: wire.Buffer, at: int, end: int, tag: bytes) -> Iterator[Run]:
    """Varints. Tags are varints too: of all that end in these bytes, every other one must be the tag."""
    size = _FIRST_BYTES
    while True:
        block = np.frombuffer(data, _U1, min(size, end - at), at)
        ends = np.flatnonzero(block < 0x80)
        ends = ends[: len(ends) // 2 * 2]
        if not len(ends):
            return
        starts = np.append(0, ends[:-1] + 1)[::2]
        good = _leading(_are_tags(block, starts, ends[::2], tag))
        if good:
            stop = int(ends[2 * good - 1]) + 1
            yield _without_tags(block[:stop], starts[:good], tag), at + stop
            at += stop
        if 2 * good < len(ends):
            return
        size = min(4 * size, _MOST_BYTES)


def _are_tags(block: NDArray[Any], starts: NDArray[Any], ends: NDArray[Any], tag: bytes) -> NDArray[Any]:
    same: NDArray[Any] = ends - starts == len(tag) - 1
    for offset, byte in enumerate(tag):
        same &= block[np.minimum(starts + offset, len(block) - 1)] == byte
    return same


def _without_tags(block: NDArray[Any], starts: NDArray[Any], tag: bytes) -> bytes:
    keep = np.ones(len(block), np.bool_)
    for offset in range(len(tag)):
        keep[starts + offset] = False
    return block[keep].tobytes()


def _leading(same: NDArray[Any]) -> int:
    """How many of the first are true."""
    return len(same) if same.all() else int(np.argmin(same))
