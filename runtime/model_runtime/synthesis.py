"""Inputs made up from a contract: what a warm-up, `check` and `predict` send when nobody says what to send.

Unknown dimensions are 1, numbers are 1, strings are "1": the values that the fewest models choke on. Deterministic.
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

from . import tensors
from .contract import DataType, Field, Shape
from .contract.types import BINARY_PROFILES
from .model.values import Fields
from .tensors import Tensor

# The smallest PNG there is: one transparent pixel. Models of pictures open what they are given.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


def inputs(fields: Fields, unknown: int = 1) -> Dict[str, Tensor]:
    """A tensor for each field, within the contract; `unknown` is the size of each dimension it leaves open."""
    return {field.name: _tensor(field, unknown) for field in fields}


def _tensor(field: Field, unknown: int) -> Tensor:
    shape: Shape = tuple(unknown if dim == -1 else dim for dim in field.shape or ())
    if field.dtype is DataType.MAP:
        count = int(np.prod(shape, dtype=np.int64))
        return tensors.map_tensor(shape, [inputs(field.fields, unknown) for _ in range(count)])
    if field.dtype is DataType.ANY:
        return tensors.tensor(np.ones(shape), DataType.DOUBLE)
    return tensors.tensor(_values(field, shape), field.dtype)


def _values(field: Field, shape: Shape) -> Any:
    if field.dtype is not DataType.STRING:
        kind, size = field.dtype.numpy
        return np.ones(shape, dtype=f"{kind}{size}")
    values = np.empty(shape, dtype=object)
    values[...] = _PIXEL if field.profile in BINARY_PROFILES else b"1"
    return values
