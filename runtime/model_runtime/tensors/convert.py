"""What a model returned to tensors of the declared type. Nothing is converted at a loss, and no value is guessed.

The numbers' rules, from what a model returns to what its contract declares (None of them wraps, cuts or rounds silently):

* bool to any number, integer to a wider or narrower integer, integer to float or complex, float to complex, float to a wider
  float: if every value survives.
* float to a narrower float: the values of arrays and numpy scalars must survive exactly; Python's own floats, alone or in a
  list, are rounded as long as they stay finite, because models return `0.1` for float32 contracts all the time.
* Never: float to integer (not even 3.0), number to bool, complex to float, text to number, number to text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..contract.types import DataType
from . import foreign
from .tensor import MAX_RANK, NUMPY, OBJECT, Shape, Tensor, TensorError, objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCALARS = {int: DataType.INT64, float: DataType.DOUBLE, bool: DataType.BOOL, complex: DataType.COMPLEX128}
_LIMITS = {
    dtype: (int(np.iinfo(numpy).min), int(np.iinfo(numpy).max)) for dtype, numpy in NUMPY.items() if numpy.kind in "iu"
}
_OPEN = (DataType.INVALID, DataType.ANY)
_KINDS = {"b": "bool", "i": "integer", "u": "integer", "f": "float", "c": "complex"}
# What each kind of number may become, if every value survives.
_BECOMES = {"b": "biufc", "i": "iufc", "u": "iufc", "f": "fc", "c": "c"}
# The type of an answer whose field declares none; the first of those with the same numpy type.
_INFERRED: Dict[Tuple[str, int], DataType] = {}
for _dtype, _numpy in NUMPY.items():
    if not _dtype.name.startswith(("Q", "BFLOAT")):
        _INFERRED[_numpy.kind, _numpy.itemsize] = _dtype


def tensor(value: Any, dtype: DataType = DataType.INVALID) -> Tensor:
    """The value, a Python or numpy scalar, an array of any layout, or a list, as a tensor of `dtype` by this module's rules.

    INVALID and ANY take the value's own type (`dtype_of`). STRING takes str, bytes and arrays of them. Raises TensorError; for
    MAP use `mappings` and `map_tensor`.
    """
    if dtype is DataType.STRING:
        return _strings(_string_array(value))
    if dtype not in NUMPY and dtype not in _OPEN:
        raise TensorError(f"expected a type of numbers or strings, got {dtype.label}")
    if type(value) in _SCALARS:
        return _scalar(value, _SCALARS[type(value)] if dtype in _OPEN else dtype)
    array = _numbers(value, dtype)
    if array.dtype.kind in "OUST" and dtype in _OPEN:
        return _strings(_string_array(value))
    wanted = dtype_of(array) if dtype in _OPEN else dtype
    return _number_tensor(array, wanted, rounding=isinstance(value, (list, tuple)))


def dtype_of(value: Any) -> DataType:
    """The type that a value of no declared type is sent as: int is INT64, float DOUBLE, arrays their own. Raises TensorError."""
    array = _numbers(value, DataType.INVALID)
    if array.dtype.kind in "UST":
        return DataType.STRING
    if array.dtype == OBJECT and array.size:
        first = array.ravel()[0]
        if isinstance(first, (str, bytes)):
            return DataType.STRING
        if isinstance(first, Mapping):
            return DataType.MAP
    found = _INFERRED.get((array.dtype.kind, array.dtype.itemsize))
    if found is None:
        raise TensorError(f"expected numbers, strings or mappings, got {_described(value, array)}")
    return found


def mappings(value: Any) -> Tuple[Shape, List[Mapping[str, Any]]]:
    """The shape and the mappings, in order, of a nested field's value: one dict, or an array or list of them."""
    if isinstance(value, Mapping):
        return (), [value]
    array = _sized(_object_array(value))
    entries: List[Mapping[str, Any]] = array.ravel().tolist()
    for at, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise TensorError(f"expected mappings of nested fields, got {_name(entry)} at [{_index(at, array.shape)}]")
    return array.shape, entries


def map_tensor(shape: Shape, entries: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """A MAP tensor of that shape from nested tensors, one mapping for each element."""
    return Tensor(DataType.MAP, shape, objects([dict(entry) for entry in entries]))


# Numbers ------------------------------------------------------------------------------------------------------------


def _scalar(value: Any, dtype: DataType) -> Tensor:
    """Python's own number, without the detour over an array: the most frequent answer of all."""
    if type(value) is int and dtype in _LIMITS:
        lowest, highest = _LIMITS[dtype]
        if not lowest <= value <= highest:
            raise TensorError(f"expected {dtype.label}, got {value} which {dtype.label} cannot hold")
        return Tensor(dtype, (), np.array([value], NUMPY[dtype]))
    if dtype is DataType.DOUBLE and type(value) is float:
        return Tensor(dtype, (), np.array([value], NUMPY[dtype]))
    return _number_tensor(_numbers(value, dtype), dtype, rounding=type(value) is not int)


def _numbers(value: Any, dtype: DataType) -> NDArray[Any]:
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TensorError(f"expected {_wanted(dtype)}, got a masked array, whose masked elements have no value")
    try:
        return _sized(np.asarray(foreign.arraylike(value)))
    except TensorError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise TensorError(f"expected {_wanted(dtype)}, got {_name(value)} that makes no array: {error}") from None


def _sized(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim > MAX_RANK:
        raise TensorError(f"expected at most {MAX_RANK} dimensions, got {array.ndim}")
    return array


def _number_tensor(array: NDArray[Any], dtype: DataType, *, rounding: bool) -> Tensor:
    if (
        array.dtype.kind not in _KINDS
        or array.dtype.itemsize > 16
        or NUMPY[dtype].kind not in _BECOMES[array.dtype.kind]
    ):
        raise TensorError(f"expected {dtype.label}, got {_described(array, array)}")
    flat = array.reshape(-1)
    wanted = NUMPY[dtype]
    values = flat if flat.dtype == wanted else _converted(flat, dtype, rounding, array.shape)
    if dtype is DataType.BFLOAT16:
        values = _bfloat16(values, rounding, array.shape)
    return Tensor(dtype, array.shape, values)


def _converted(flat: NDArray[Any], dtype: DataType, rounding: bool, shape: Shape) -> NDArray[Any]:
    wanted = NUMPY[dtype]
    if np.can_cast(flat.dtype, wanted, "safe") and not (flat.dtype.kind in "iu" and wanted.kind in "fc"):
        return flat.astype(wanted)
    if wanted.kind in "iu":
        lowest, highest = _LIMITS[dtype]
        survives = (flat >= lowest) & (flat <= highest)
        values = flat.astype(wanted)
    else:
        with np.errstate(all="ignore"):
            values = flat.astype(wanted)
            survives = _survives(flat, values, rounding)
    if not survives.all():
        _refuse(dtype, flat, int(np.argmin(survives)), shape)
    return values


def _survives(flat: NDArray[Any], values: NDArray[Any], rounding: bool) -> NDArray[Any]:
    """Which numbers are the same as floats; with `rounding`, which floats are still finite."""
    survives: NDArray[Any]
    if values.dtype.kind == "c":
        survives = _survives(flat.real, values.real, rounding) & _survives(flat.imag, values.imag, rounding)
    elif flat.dtype.kind in "iu":
        top = float(2 ** (8 * flat.dtype.itemsize - (flat.dtype.kind == "i")))
        inside = np.isfinite(values) & (values < top)  # only then can it be cast back
        survives = inside & (np.where(inside, values, 0).astype(flat.dtype) == flat)
    elif rounding:
        survives = np.isfinite(values) | ~np.isfinite(flat)
    else:
        survives = (values == flat) | np.isnan(flat)
    return survives


def _bfloat16(values: NDArray[Any], rounding: bool, shape: Shape) -> NDArray[Any]:
    """float32 whose lower 16 bits are zero: what bfloat16 can hold."""
    bits = values.view("<u4")
    nan = np.isnan(values)
    rounded = np.where(
        nan, bits | np.uint32(0x400000), bits + ((bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF))
    )
    held: NDArray[Any] = (rounded & np.uint32(0xFFFF0000)).view(values.dtype)
    survives = np.isfinite(held) | ~np.isfinite(values) if rounding else (held == values) | nan
    if not survives.all():
        _refuse(DataType.BFLOAT16, values, int(np.argmin(survives)), shape)
    return held


def _refuse(dtype: DataType, flat: NDArray[Any], at: int, shape: Shape) -> None:
    own = _INFERRED.get((flat.dtype.kind, flat.dtype.itemsize))
    place = f" at [{_index(at, shape)}]" if shape else ""
    came = f"{own.label if own else flat.dtype} {flat[at]!s}{place}"
    raise TensorError(f"expected {dtype.label}, got {came} which {dtype.label} cannot hold")


# Strings ------------------------------------------------------------------------------------------------------------


def _string_array(value: Any) -> NDArray[Any]:
    if isinstance(value, (str, bytes, bytearray, memoryview)):  # np.str_ and np.bytes_ are these too
        return objects([value]).reshape(())
    if isinstance(value, np.ma.MaskedArray):
        raise TensorError("expected string, got a masked array")
    array = _sized(_object_array(value))
    if array.dtype.kind not in "OUST" and array.size:
        raise TensorError(f"expected string, got {_described(value, array)}")
    return array


def _strings(array: NDArray[Any]) -> Tensor:
    values = array.ravel().tolist()
    try:
        payloads = list(map(str.encode, values))
    except (TypeError, UnicodeEncodeError):  # there are bytes among them, or something to complain about
        payloads = _payloads(values, array)
    return Tensor(DataType.STRING, array.shape, objects(payloads))


def _payloads(values: List[Any], array: NDArray[Any]) -> List[bytes]:
    payloads: List[bytes] = []
    for at, value in enumerate(values):
        if isinstance(value, bytes):
            payloads.append(bytes.__getitem__(value, slice(None)))  # of a subclass, which may give another length
        elif isinstance(value, (bytearray, memoryview)):
            payloads.append(bytes(value))
        elif isinstance(value, str):
            payloads.append(_utf8(value, at, array.shape))
        else:
            raise TensorError(f"expected string, got {_name(value)} at [{_index(at, array.shape)}]")
    return payloads


def _utf8(value: str, at: int, shape: Shape) -> bytes:
    try:
        return str.encode(value, "utf-8")
    except UnicodeEncodeError:
        raise TensorError(f"expected string, got text that UTF-8 cannot hold at [{_index(at, shape)}]") from None


def _object_array(value: Any) -> NDArray[Any]:
    """An array of the value's elements as they are: lists are not turned into numpy's text, which drops trailing NULs."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        plain = foreign.arraylike(value, text=True)
        return np.asarray(plain, OBJECT if isinstance(plain, (list, tuple)) else None)
    except TensorError:
        raise
    except ValueError as error:
        raise TensorError(f"expected elements of one shape, got {_name(value)}: {error}") from None


# Words --------------------------------------------------------------------------------------------------------------


def _wanted(dtype: DataType) -> str:
    return "a value" if dtype in _OPEN else dtype.label


def _index(at: int, shape: Shape) -> str:
    return ",".join(map(str, np.unravel_index(at, shape))) if shape else ""


def _name(value: Any) -> str:
    return foreign.type_name(value)


def _described(value: Any, array: NDArray[Any]) -> str:
    """What a person calls it: `float64[2,3]`, `str`, `None`, `a list of unequal lists`."""
    if array.dtype == OBJECT:
        if not array.ndim:
            return _name(array.item())
        first: Optional[object] = array.ravel()[0] if array.size else None
        return f"object[{','.join(map(str, array.shape))}] of {_name(first)}" if array.size else "an empty object array"
    dims = f"[{','.join(map(str, array.shape))}]" if array.ndim else ""
    own = _INFERRED.get((array.dtype.kind, array.dtype.itemsize))
    label = own.label if own else "string" if array.dtype.kind in "UST" else str(array.dtype)
    return f"{label}{dims}"
