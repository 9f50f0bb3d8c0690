"""Tensor, the message of every era, as a value; and the table of which data type travels in which field of it.

Knows no bytes and converts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, TypeVar

import numpy as np

from .. import wire
from ..contract.types import DataType

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = Tuple[int, ...]

MAX_RANK = 32  # numpy 1.x can hold no more


class TensorError(ValueError):
    """A tensor or an array that cannot be what it must be: what was expected, and what came."""


class Tensor(NamedTuple):
    """One tensor as it stands on the wire.

    `shape` is () for an empty shape message, None for no shape message or an unknown rank, and may hold -1 dims.
    `values` is flat: numbers in the little-endian numpy type of `DataType.numpy` (half as float16, bfloat16 as float32,
    quantised integers as integers), STRING as an object array of bytes, MAP as an object array of dict[str, Tensor]. Numbers
    may be a read-only view on the bytes they were decoded from.
    `problem`, if not empty, tells why the values cannot be read although protobuf could parse the message; `values` is then
    empty and `array()` raises.
    """

    dtype: DataType
    shape: Optional[Shape]
    values: NDArray[Any]
    problem: str = ""
    omitted: int = (
        0  # values that the message leaves out by TensorFlow's rule: the last one again, or zeros where none came
    )


class ValueField(NamedTuple):
    """One repeated numeric field of the tensor message."""

    name: str
    kind: int  # the wire type of one value outside a packed payload
    width: int  # bytes of one value, 0 for a varint
    dtype: np.dtype[Any]


FLOAT_VAL, DOUBLE_VAL, INT_VAL, STRING_VAL, SCOMPLEX_VAL, INT64_VAL, BOOL_VAL, DCOMPLEX_VAL, HALF_VAL = range(5, 14)
UINT32_VAL, UINT64_VAL, MAP_VAL = 16, 17, 27

VALUE_FIELDS: Dict[int, ValueField] = {
    FLOAT_VAL: ValueField("float_val", wire.FIXED32, 4, np.dtype("<f4")),
    DOUBLE_VAL: ValueField("double_val", wire.FIXED64, 8, np.dtype("<f8")),
    INT_VAL: ValueField("int_val", wire.VARINT, 0, np.dtype("<i4")),
    SCOMPLEX_VAL: ValueField("scomplex_val", wire.FIXED32, 4, np.dtype("<f4")),
    INT64_VAL: ValueField("int64_val", wire.VARINT, 0, np.dtype("<i8")),
    BOOL_VAL: ValueField("bool_val", wire.VARINT, 0, np.dtype("?")),
    DCOMPLEX_VAL: ValueField("dcomplex_val", wire.FIXED64, 8, np.dtype("<f8")),
    HALF_VAL: ValueField("half_val", wire.VARINT, 0, np.dtype("<i4")),
    UINT32_VAL: ValueField("uint32_val", wire.VARINT, 0, np.dtype("<u4")),
    UINT64_VAL: ValueField("uint64_val", wire.VARINT, 0, np.dtype("<u8")),
}

# The fields in which a type's values may come; the first is where they are written.
CARRIERS: Dict[DataType, Tuple[int, ...]] = {
    DataType.FLOAT: (FLOAT_VAL,),
    DataType.DOUBLE: (DOUBLE_VAL,),
    DataType.INT8: (INT_VAL,),
    DataType.INT16: (INT_VAL,),
    DataType.INT32: (INT_VAL,),
    DataType.UINT8: (INT_VAL,),
    DataType.UINT16: (INT_VAL, UINT32_VAL),  # Hydrosphere's TensorFlow runtime alone reads uint32_val
    DataType.UINT32: (UINT32_VAL, INT_VAL),
    DataType.INT64: (INT64_VAL,),
    DataType.UINT64: (UINT64_VAL,),
    DataType.QINT8: (INT_VAL,),
    DataType.QINT16: (INT_VAL,),
    DataType.QINT32: (INT_VAL,),
    DataType.QUINT8: (INT_VAL,),
    DataType.QUINT16: (INT_VAL,),
    DataType.BOOL: (BOOL_VAL,),
    DataType.COMPLEX64: (SCOMPLEX_VAL,),
    DataType.COMPLEX128: (DCOMPLEX_VAL,),
    DataType.HALF: (HALF_VAL,),
    DataType.BFLOAT16: (HALF_VAL,),
}

# What a type's values are held in; "<" is the machine's own order on everything that runs this.
NUMPY: Dict[DataType, np.dtype[Any]] = {
    dtype: np.dtype("?") if dtype is DataType.BOOL else np.dtype("<{}{}".format(*dtype.numpy)) for dtype in CARRIERS
}
OBJECT = np.dtype(object)
EMPTY = np.empty(0, OBJECT)


_Dims = TypeVar("_Dims", Tuple[int, ...], List[int])


def ranked(dims: _Dims) -> _Dims:
    """The dims, if a tensor may have so many. Raises TooMany: nothing behind them is worth reading."""
    if len(dims) > MAX_RANK:
        raise wire.TooMany(f"expected at most {MAX_RANK} dimensions, got more")
    return dims


def objects(values: List[Any]) -> NDArray[Any]:
    """A flat object array of the values, whatever they are."""
    array = np.empty(len(values), OBJECT)
    array[:] = values
    return array
