"""Bytes to tensors: the Predict messages of every era, read over numpy.

Accepts exactly what protobuf's parser accepts and reads the same from it; anything else is a WireError. Whether the values
make an array is not judged here (`Tensor.problem` notes what stands against it). Converts nothing, knows no contract.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from .. import wire
from ..contract.types import DataType
from . import varints
from .eras import Era
from .tensor import (
    CARRIERS,
    EMPTY,
    MAP_VAL,
    MAX_RANK,
    NUMPY,
    STRING_VAL,
    VALUE_FIELDS,
    Shape,
    Tensor,
    ValueField,
    objects,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES: Dict[int, DataType] = {int(dtype): dtype for dtype in DataType}
_INVALID = DataType.INVALID
_CONTENT, _VARIANT_VAL = 4, 15
_CACHED_SHAPE = 96  # bytes of a shape message up to which it is worth remembering
_HALF_TYPES = (DataType.HALF, DataType.BFLOAT16)

# Where the values of one field stand in the message: between two offsets, or, come in several pieces, joined in an own buffer.
_Payload = Union[Tuple[int, int], bytearray]


class Request(NamedTuple):
    """A PredictRequest. v3 knows inputs only."""

    inputs: Dict[str, Tensor]
    signature_name: str = ""
    model_name: str = ""
    model_version: Optional[int] = None


def decode_request(era: Era, data: bytes) -> Request:
    """The PredictRequest in `data`; numeric inputs may be views on it. Raises WireError."""
    inputs: Dict[str, Tensor] = {}
    spec: List[Any] = ["", "", None]
    for number, kind, value, end in wire.fields(data):
        if kind == wire.LENGTH:
            if number == era.inputs:
                _read_entry(inputs, era, data, value, end, 1)
            elif number == 1 and era.model_spec:
                _read_spec(era, spec, data, value, end)
            elif number == 3 and era.has_output_filter:
                wire.read_text(data, value, end)
    return Request(inputs, *spec)


def decode_response(era: Era, data: bytes) -> Dict[str, Tensor]:
    """The outputs of the PredictResponse in `data`. Raises WireError."""
    return _read_map(era, data, 0, len(data), 0)


def _read_spec(era: Era, spec: List[Any], data: wire.Buffer, start: int, end: int) -> None:
    """ModelSpec {1: name, 2: Int64Value version, 3: signature_name}, merged into what came before."""
    for number, kind, value, stop in wire.fields(data, start, end, 1):
        if kind == wire.LENGTH and number in era.model_spec:
            if number == 3:
                spec[0] = wire.read_text(data, value, stop)
            elif number == 1:
                spec[1] = wire.read_text(data, value, stop)
            else:
                spec[2] = _read_version(spec[2] or 0, data, value, stop)


def _read_version(version: int, data: wire.Buffer, start: int, end: int) -> int:
    for number, kind, value, _ in wire.fields(data, start, end, 2):
        if number == 1 and kind == wire.VARINT:
            version = wire.int64(value)
    return version


def _read_map(era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> Dict[str, Tensor]:
    """{1: map<string, Tensor>}: PredictResponse, and MapTensorData."""
    tensors: Dict[str, Tensor] = {}
    for number, kind, value, stop in wire.fields(data, start, end, depth):
        if number == 1 and kind == wire.LENGTH:
            _read_entry(tensors, era, data, value, stop, depth + 1)
    return tensors


def _read_entry(tensors: Dict[str, Tensor], era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> None:
    """Add the entry {1: name, 2: tensor} of a map; not if it holds anything else, for so does protobuf's parser."""
    name, draft, known = "", _Draft(), True
    for number, kind, value, stop in wire.fields(data, start, end, depth):
        if kind == wire.LENGTH and number == 2:
            draft.read(era, data, value, stop, depth + 1)
        elif kind == wire.LENGTH and number == 1:
            name = wire.read_text(data, value, stop)
        else:
            known = False
    tensor = draft.tensor(data)
    if known:
        tensors[name] = tensor


class _Draft:
    """A tensor message while it is read: a message may come in several pieces, each merged into those before."""

    __slots__ = ("content", "dims", "dtype", "maps", "numbers", "strings", "unknown_rank")

    def __init__(self) -> None:
        self.dtype = 0
        self.dims: Optional[Shape] = None
        self.unknown_rank = False
        self.content: Tuple[int, int] = (0, 0)
        self.numbers: Dict[int, _Payload] = {}
        self.strings: List[bytes] = []
        self.maps: List[Dict[str, Tensor]] = []

    def read(self, era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> None:
        for number, kind, value, stop in wire.fields(data, start, end, depth):
            if kind == wire.LENGTH:
                if number == 2:
                    self._merge_shape(*_read_shape(era, data, value, stop, depth + 1))
                elif number in VALUE_FIELDS:
                    self._add_packed(number, data, value, stop)
                elif number == STRING_VAL:
                    self.strings.append(bytes(data[value:stop]))
                elif number == MAP_VAL:
                    self._add_map(era, data, value, stop, depth + 1)
                elif number == _CONTENT:
                    self.content = value, stop
                elif number == _VARIANT_VAL and era.has_variants:
                    _check_variant(era, data, value, stop, depth + 1)
            elif kind == wire.VARINT and number == 1:
                self.dtype = wire.int32(value)
            elif number in VALUE_FIELDS and kind == VALUE_FIELDS[number].kind:
                self._add(number, data, wire.varint(value) if kind == wire.VARINT else data[value:stop])

    def _merge_shape(self, dims: Shape, unknown_rank: Optional[bool]) -> None:
        self.dims = dims if self.dims is None else (self.dims + dims)[: MAX_RANK + 1]
        if unknown_rank is not None:
            self.unknown_rank = unknown_rank

    def _add_map(self, era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> None:
        if not era.plain_maps:
            self.maps.append(_read_map(era, data, start, end, depth))
            return
        entries = self.maps[0] if self.maps else {}
        _read_entry(entries, era, data, start, end, depth)
        self.maps = [entries] if entries else []

    def _add_packed(self, number: int, data: wire.Buffer, start: int, end: int) -> None:
        if start == end:
            return
        width = VALUE_FIELDS[number].width
        if (end - start) % width if width else data[end - 1] >= 0x80:
            raise wire.WireError(f"packed {VALUE_FIELDS[number].name} cut within a value at offset {end}")
        if number in self.numbers:
            self._add(number, data, data[start:end])
        else:
            self.numbers[number] = start, end

    def _add(self, number: int, data: wire.Buffer, piece: wire.Buffer) -> None:
        joined = self.numbers.get(number, b"")
        if not isinstance(joined, bytearray):
            joined = self.numbers[number] = bytearray(data[slice(*joined)] if joined else b"")
        joined += piece

    def tensor(self, data: wire.Buffer) -> Tensor:
        dtype = _TYPES.get(self.dtype, _INVALID)
        shape = None if self.unknown_rank else self.dims
        # All of them, whatever the type wants: protobuf refuses a message for any broken varint in it.
        numbers = {}
        for number, payload in self.numbers.items():
            numbers[number] = _numbers(VALUE_FIELDS[number], data, payload)
        try:
            return Tensor(dtype, shape, self._values(dtype, data, numbers))
        except _Unreadable as error:
            return Tensor(dtype, shape, EMPTY, str(error))

    def _values(self, dtype: DataType, data: wire.Buffer, numbers: Dict[int, NDArray[Any]]) -> NDArray[Any]:
        carriers = CARRIERS.get(dtype)
        if carriers is None:
            return self._objects(dtype)
        carrier = carriers[0] if carriers[0] in numbers else carriers[-1] if carriers[-1] in numbers else 0
        start, end = self.content
        if end > start:
            if carrier:
                raise _Unreadable(f"expected values once, got them in {_NAMES[carrier]} and in tensor_content")
            return _content(dtype, data, start, end)
        if carrier:
            return _cast(dtype, VALUE_FIELDS[carrier], numbers[carrier])
        stray = self._stray(carriers)
        if stray:
            raise _Unreadable(f"expected {dtype.label} values in {_NAMES[carriers[0]]}, got values in {stray}")
        return np.empty(0, NUMPY[dtype])

    def _objects(self, dtype: DataType) -> NDArray[Any]:
        if dtype is DataType.STRING:
            values, carriers = objects(self.strings), (STRING_VAL,)
        elif dtype is DataType.MAP:
            values, carriers = objects(self.maps), (MAP_VAL,)
        else:
            known = f"{dtype.label} ({self.dtype})" if dtype or not self.dtype else f"the unknown type {self.dtype}"
            raise _Unreadable(f"expected a tensor of numbers, strings or maps, got {known}")
        if self.content[1] > self.content[0]:
            raise _Unreadable(f"expected {dtype.label} values in {_NAMES[carriers[0]]}, got tensor_content")
        stray = "" if len(values) else self._stray(carriers)
        if stray:
            raise _Unreadable(f"expected {dtype.label} values in {_NAMES[carriers[0]]}, got values in {stray}")
        return values

    def _stray(self, carriers: Tuple[int, ...]) -> str:
        """The fields, other than the type's own, in which values came."""
        numbers = [*self.numbers, *[STRING_VAL][: len(self.strings)], *[MAP_VAL][: len(self.maps)]]
        return " and ".join(_NAMES[number] for number in sorted(numbers) if number not in carriers)


_NAMES = {
    STRING_VAL: "string_val",
    MAP_VAL: "map_val",
    **{number: field.name for number, field in VALUE_FIELDS.items()},
}


class _Unreadable(Exception):
    """Why a message that protobuf accepts holds no values of its type."""


# Shapes -------------------------------------------------------------------------------------------------------------


def _read_shape(era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> Tuple[Shape, Optional[bool]]:
    read = _read_nested_shape if era.nested_dims else _read_packed_shape
    if end - start > _CACHED_SHAPE:
        return read(bytes(data[start:end]), depth)
    return _cached_shape(era.nested_dims, bytes(data[start:end]), depth)


@lru_cache(maxsize=1024)
def _cached_shape(nested: bool, message: bytes, depth: int) -> Tuple[Shape, Optional[bool]]:
    return _read_nested_shape(message, depth) if nested else _read_packed_shape(message, depth)


def _read_nested_shape(message: bytes, depth: int) -> Tuple[Shape, Optional[bool]]:
    """TensorShapeProto {2: repeated Dim {1: size, 2: name}, 3: unknown_rank}: the dims (no more than tell that they are too
    many), and unknown_rank where it is told."""
    dims: List[int] = []
    unknown_rank = None
    for number, kind, value, end in wire.fields(message, 0, len(message), depth):
        if number == 2 and kind == wire.LENGTH:
            size = _read_dim(message, value, end, depth + 1)
            if len(dims) <= MAX_RANK:
                dims.append(size)
        elif number == 3 and kind == wire.VARINT:
            unknown_rank = bool(value)
    return tuple(dims), unknown_rank


def _read_dim(message: bytes, start: int, end: int, depth: int) -> int:
    size = 0
    for number, kind, value, stop in wire.fields(message, start, end, depth):
        if number == 1 and kind == wire.VARINT:
            size = wire.int64(value)
        elif number == 2 and kind == wire.LENGTH:
            wire.read_text(message, value, stop)
    return size


def _read_packed_shape(message: bytes, depth: int) -> Tuple[Shape, Optional[bool]]:
    """TensorShape {1: repeated int64 dims}, packed or not."""
    dims: List[int] = []
    for number, kind, value, end in wire.fields(message, 0, len(message), depth):
        if number == 1 and kind == wire.VARINT:
            dims.append(wire.int64(value))
        elif number == 1 and kind == wire.LENGTH:
            dims.extend(varints.decode(message, value, end, _INT64)[: MAX_RANK + 1].tolist())
        del dims[MAX_RANK + 1 :]
    return tuple(dims), None


def _check_variant(era: Era, data: wire.Buffer, start: int, end: int, depth: int) -> None:
    """VariantTensorDataProto {1: type_name, 2: metadata, 3: tensors}: nothing reads it, and protobuf refuses a broken one."""
    for number, kind, value, stop in wire.fields(data, start, end, depth):
        if number == 1 and kind == wire.LENGTH:
            wire.read_text(data, value, stop)
        elif number == 3 and kind == wire.LENGTH:
            draft = _Draft()
            draft.read(era, data, value, stop, depth + 1)
            draft.tensor(data)


# Numbers ------------------------------------------------------------------------------------------------------------

_INT64 = np.dtype("<i8")


def _numbers(field: ValueField, data: wire.Buffer, payload: _Payload) -> NDArray[Any]:
    """The values of one field: a view on fixed-width ones, an own array of varints."""
    source, start, end = (payload, 0, len(payload)) if isinstance(payload, bytearray) else (data, *payload)
    if field.width:
        return np.frombuffer(source, field.dtype, (end - start) // field.width, start)
    return varints.decode(source, start, end, field.dtype)


def _cast(dtype: DataType, field: ValueField, values: NDArray[Any]) -> NDArray[Any]:
    """The values of one field in the type's own numpy type. They are checked: what does not fit is refused, never cut."""
    wanted = NUMPY[dtype]
    if field.dtype is wanted:
        return values
    if wanted.kind == "c":
        if len(values) % 2:
            raise _Unreadable(f"expected pairs of real and imaginary parts in {field.name}, got {len(values)} numbers")
        return values.view(wanted)
    _check_range(dtype, field, values)
    return _from_halves(dtype, values.astype("<u2")) if dtype in _HALF_TYPES else values.astype(wanted)


def _check_range(dtype: DataType, field: ValueField, values: NDArray[Any]) -> None:
    limits = np.iinfo("<u2" if dtype in _HALF_TYPES else NUMPY[dtype])
    if len(values) and not limits.min <= int(values.min()) <= int(values.max()) <= limits.max:
        at = int(np.flatnonzero((values < limits.min) | (values > limits.max))[0])
        what = f"16-bit patterns of {dtype.label}" if dtype in _HALF_TYPES else f"{dtype.label} values"
        raise _Unreadable(f"expected {what} in {field.name}, got {values[at]} at [{at}]")


def _from_halves(dtype: DataType, patterns: NDArray[Any]) -> NDArray[Any]:
    if dtype is DataType.HALF:
        return patterns.view(NUMPY[dtype])
    wide = patterns.astype("<u4")
    wide <<= np.uint32(16)
    return wide.view(NUMPY[dtype])


def _content(dtype: DataType, data: wire.Buffer, start: int, end: int) -> NDArray[Any]:
    """The values of tensor_content (v3: binary_val), little-endian and one behind the other: a view on them."""
    bits = np.dtype("<u2") if dtype is DataType.BFLOAT16 else NUMPY[dtype]
    if (end - start) % bits.itemsize:
        raise _Unreadable(
            f"expected tensor_content of {bits.itemsize} bytes for each {dtype.label}, got {end - start} bytes"
        )
    count = (end - start) // bits.itemsize
    if dtype is DataType.BFLOAT16:
        return _from_halves(dtype, np.frombuffer(data, bits, count, start))
    if dtype is DataType.BOOL:
        return np.frombuffer(data, "u1", count, start).astype(bits)
    return np.frombuffer(data, bits, count, start)
