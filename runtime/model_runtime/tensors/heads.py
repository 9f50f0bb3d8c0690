"""Inputs like ones before: of most requests nothing is new but the values, and what stands before these is known by its bytes.

An entry that has the size of one read before, and begins with the same bytes up to its values, is that entry with other values:
every tag and length, the values' own among them, is in what was compared. That costs a fraction of reading field by field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Tuple

import numpy as np

from .. import wire
from ..contract.types import DataType
from .tensor import Shape, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST = 1024  # that are remembered, however many kinds of requests come
_LONGEST = 512  # bytes; a name may be as long as somebody likes

_Key = Tuple[str, int, bytes]


class Head(NamedTuple):
    """What stands before the values of an entry {1: name, 2: tensor}, and what it says."""

    data: bytes
    name: str
    dtype: DataType
    shape: Optional[Shape]
    values: np.dtype[Any]
    length: int
    omitted: int

    def tensor(self, data: wire.Buffer, start: int) -> Tensor:
        """The tensor of the entry at `start`: a view on its values."""
        values = np.frombuffer(data, self.values, self.length, start + len(self.data))
        return Tensor(self.dtype, self.shape, values, "", self.omitted)


_heads: Dict[_Key, Head] = {}


def find(era: str, data: wire.Buffer, start: int, end: int) -> Optional[Head]:
    """The head of the entry in data[start:end], if it is known."""
    if end - start < 2:
        return None
    head = _heads.get(_key(era, data, start, end))
    return head if head is not None and data[start : start + len(head.data)] == head.data else None


def remember(era: str, data: wire.Buffer, start: int, end: int, name: str, tensor: Tensor) -> None:
    """That data[start:end] was read as this, which ends in the values as they stand: views of a fixed width."""
    values: NDArray[Any] = tensor.values
    size = end - start - values.nbytes
    if size <= _LONGEST:
        if len(_heads) >= _MOST:
            _heads.clear()
        head = bytes(data[start : start + size])
        _heads[_key(era, data, start, end)] = Head(
            head, name, tensor.dtype, tensor.shape, values.dtype, len(values), tensor.omitted
        )


def _key(era: str, data: wire.Buffer, start: int, end: int) -> _Key:
    """Era, size, and the beginning: the whole name, where the entry begins with it as it does in practice."""
    return era, end - start, bytes(data[start : start + 2 + data[start + 1]])
