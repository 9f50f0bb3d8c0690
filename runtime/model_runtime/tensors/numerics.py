"""The numbers of one tensor: from a field's packed payload, or from tensor_content, to the numpy type of the tensor's own.

What does not fit its type is refused, never cut. Knows no message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import wire
from ..contract.types import DataType
from . import varints
from .tensor import NUMPY, ValueField

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALF_TYPES = (DataType.HALF, DataType.BFLOAT16)


class Unreadable(Exception):
    """Why a message that protobuf accepts holds no values of its type."""


def of_field(field: ValueField, source: wire.Buffer, start: int, end: int) -> NDArray[Any]:
    """The values of one field: a view on fixed-width ones, an own array of varints."""
    if field.width:
        return np.frombuffer(source, field.dtype, (end - start) // field.width, start)
    return varints.decode(source, start, end, field.dtype)


def cast(dtype: DataType, field: ValueField, values: NDArray[Any]) -> NDArray[Any]:
    """The values of one field in the type's own numpy type. They are checked: what does not fit is refused, never cut."""
    wanted = NUMPY[dtype]
    if field.dtype is wanted:
        return values
    if wanted.kind == "c":
        if len(values) % 2:
            raise Unreadable(f"expected pairs of real and imaginary parts in {field.name}, got {len(values)} numbers")
        return values.view(wanted)
    _check_range(dtype, field, values)
    return _from_halves(dtype, values.astype("<u2")) if dtype in _HALF_TYPES else values.astype(wanted)


def _check_range(dtype: DataType, field: ValueField, values: NDArray[Any]) -> None:
    limits = np.iinfo("<u2" if dtype in _HALF_TYPES else NUMPY[dtype])
    if len(values) and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        at = int(np.flatnonzero((values < limits.min) | (values > limits.max))[0])
        what = f"16-bit patterns of {dtype.label}" if dtype in _HALF_TYPES else f"{dtype.label} values"
        raise Unreadable(f"expected {what} in {field.name}, got {values[at]} at [{at}]")


def _from_halves(dtype: DataType, patterns: NDArray[Any]) -> NDArray[Any]:
    if dtype is DataType.HALF:
        return patterns.view(NUMPY[dtype])
    wide = patterns.astype("<u4")
    wide <<= np.uint32(16)
    return wide.view(NUMPY[dtype])


def of_content(dtype: DataType, data: wire.Buffer, start: int, end: int, name: str = "tensor_content") -> NDArray[Any]:
    """The values of tensor_content (v3: binary_val) or whatever is named, little-endian and one behind the other: a view."""
    bits = np.dtype("<u2") if dtype is DataType.BFLOAT16 else NUMPY[dtype]
    if (end - start) % bits.itemsize:
        raise Unreadable(f"expected {name} of {bits.itemsize} bytes for each {dtype.label}, got {end - start} bytes")
    count = (end - start) // bits.itemsize
    if dtype is DataType.BFLOAT16:
        return _from_halves(dtype, np.frombuffer(data, bits, count, start))
    if dtype is DataType.BOOL:
        return np.frombuffer(data, "u1", count, start).astype(bits)
    return np.frombuffer(data, bits, count, start)
