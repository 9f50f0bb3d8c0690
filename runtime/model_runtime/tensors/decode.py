"""Bytes to tensors: the Predict messages of every era, read over numpy.

Accepts exactly what protobuf's parser accepts and reads the same from it; anything else is a WireError. Whether the values
make an array is not judged here (`Tensor.problem` notes what stands against it). Converts nothing, knows no contract.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from .. import wire
from ..contract.types import DataType
from ..protocols import Era
from . import heads, numerics, shapes, varints
from .payloads import Payloads
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
    objects,
    ranked,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TYPES: Dict[int, DataType] = {int(dtype): dtype for dtype in DataType}
_INVALID = DataType.INVALID
_CONTENT, _VARIANT_VAL = 4, 15
_INT64 = np.dtype("<i8")
MAX_INPUTS = (
    4096  # of a request; a contract of so many inputs is unheard of, and each unknown one costs as much as a known one
)
# What reading a tensor, a map, a row of strings and a shape costs, in fields; and of a shape so many bytes more.
_TENSOR_PARTS, _MAP_PARTS, ROW_PARTS, _SHAPE_PARTS, _SHAPE_BYTES = 8, 4, 4, 2, 4
_CACHED_SHAPE = 96  # bytes of a shape message up to which it is worth remembering


class Request(NamedTuple):
    """A PredictRequest. v3 knows inputs only."""

    inputs: Dict[str, Tensor]
    signature_name: str = ""
    model_name: str = ""
    model_version: Optional[int] = None
    outputs: Tuple[str, ...] = ()  # output_filter: those that are asked for; none: all


def decode_request(era: Era, data: bytes) -> Request:
    """The PredictRequest in `data`; numeric inputs may be views on it. Raises WireError."""
    reader = _Reader(era, data, wire.request_budget())
    inputs: Dict[str, Tensor] = {}
    spec: List[Any] = ["", "", None]
    outputs: Dict[str, None] = {}  # an ordered set
    entries = 0
    for number, kind, value, end in wire.fields(data, budget=reader.budget):
        if kind == wire.LENGTH:
            if number == era.inputs:
                entries += 1
                if entries > MAX_INPUTS:
                    raise wire.TooMany(f"expected at most {MAX_INPUTS} inputs, got more")
                head = heads.find(era.name, data, value, end)
                if head is None:
                    reader.entry(inputs, value, end, 1)
                else:
                    inputs[head.name] = head.tensor(data, value)
            elif number == 1 and era.model_spec:
                reader.spec(spec, value, end)
            elif number == 3 and era.is_tensorflows:
                outputs[wire.read_text(data, value, end)] = None
    return Request(inputs, spec[0], spec[1], spec[2], tuple(outputs))


def decode_response(era: Era, data: bytes) -> Dict[str, Tensor]:
    """The outputs of the PredictResponse in `data`. Raises WireError."""
    return _Reader(era, data, wire.UNBOUNDED).map(0, len(data), 0)


class _Reader:
    """The bytes of one message and the era they are of; each method reads the part of them between two offsets."""

    __slots__ = ("budget", "data", "era")

    def __init__(self, era: Era, data: wire.Buffer, budget: wire.Budget) -> None:
        self.era, self.data, self.budget = era, data, budget

    def spec(self, spec: List[Any], start: int, end: int) -> None:
        """ModelSpec {1: name, 2: Int64Value version, 3: signature_name}, merged into what came before."""
        for number, kind, value, stop in wire.fields(self.data, start, end, 1, self.budget):
            if kind == wire.LENGTH and number in self.era.model_spec:
                if number == 3:
                    spec[0] = wire.read_text(self.data, value, stop)
                elif number == 1:
                    spec[1] = wire.read_text(self.data, value, stop)
                else:
                    spec[2] = self._last_integer(spec[2] or 0, value, stop)

    def _last_integer(self, known: int, start: int, end: int) -> int:
        """Int64Value {1: value}."""
        for number, kind, value, _ in wire.fields(self.data, start, end, 2, self.budget):
            if number == 1 and kind == wire.VARINT:
                known = wire.int64(value)
        return known

    def map(self, start: int, end: int, depth: int) -> Dict[str, Tensor]:
        """{1: map<string, Tensor>}: PredictResponse, and MapTensorData."""
        tensors: Dict[str, Tensor] = {}
        self.budget.spend(_MAP_PARTS)
        for number, kind, value, stop in wire.fields(self.data, start, end, depth, self.budget):
            if number == 1 and kind == wire.LENGTH:
                self.entry(tensors, value, stop, depth + 1)
        return tensors

    def entry(self, tensors: Dict[str, Tensor], start: int, end: int, depth: int) -> None:
        """Add the entry {1: name, 2: tensor} of a map; not if it holds anything else, for so does protobuf's parser."""
        name, draft, known = "", _Draft(self), True
        self.budget.spend(_TENSOR_PARTS)
        for number, kind, value, stop in wire.fields(self.data, start, end, depth, self.budget):
            if kind == wire.LENGTH and number == 2:
                draft.read(value, stop, depth + 1)
            elif kind == wire.LENGTH and number == 1:
                name = wire.read_text(self.data, value, stop)
            else:
                known = False
        tensor = draft.tensor()
        if known:
            tensors[name] = tensor
            if depth == 1 and draft.ends_in_values(tensor, end):
                heads.remember(self.era.name, self.data, start, end, name, tensor)

    def shape(self, start: int, end: int, depth: int) -> Tuple[Shape, Optional[bool]]:
        self.budget.spend(_SHAPE_PARTS + (end - start) // _SHAPE_BYTES)
        read = _read_shape if end - start > _CACHED_SHAPE else _cached_shape
        return read(self.era.nested_dims, bytes(self.data[start:end]), depth)

    def check_variant(self, start: int, end: int, depth: int) -> None:
        """VariantTensorDataProto {1: type_name, 2: metadata, 3: tensors}: nothing reads it, and protobuf refuses a broken one."""
        for number, kind, value, stop in wire.fields(self.data, start, end, depth, self.budget):
            if number == 1 and kind == wire.LENGTH:
                wire.read_text(self.data, value, stop)
            elif number == 3 and kind == wire.LENGTH:
                draft = _Draft(self)
                self.budget.spend(_TENSOR_PARTS)
                draft.read(value, stop, depth + 1)
                draft.tensor()


class _Draft(Payloads):
    """A tensor message while it is read: a message may come in several pieces, each merged into those before."""

    FIELDS = VALUE_FIELDS
    __slots__ = ("content", "dims", "dtype", "maps", "reader", "strings", "unknown_rank")

    def __init__(self, reader: _Reader) -> None:
        super().__init__(reader.data, reader.budget)
        self.reader = reader
        self.dtype = 0
        self.dims: Optional[Shape] = None
        self.unknown_rank = False
        self.content: Tuple[int, int] = (0, 0)
        self.strings: List[bytes] = []
        self.maps: List[Dict[str, Tensor]] = []

    def read(self, start: int, end: int, depth: int) -> None:
        start = self._read(start, end, depth)  # also where there is nothing: it may be nested too deep
        while start < end:
            start = self._read(start, end, depth)

    def _read(self, start: int, end: int, depth: int) -> int:
        """Up to the end, or behind a row of strings; how far that is."""
        for number, kind, value, stop in wire.fields(self.data, start, end, depth, self.budget):
            if kind == wire.LENGTH:
                if number == 2:
                    self._merge_shape(*self.reader.shape(value, stop, depth + 1))
                elif number in VALUE_FIELDS:
                    self.add_packed(number, value, stop)
                elif number == STRING_VAL:
                    self.strings.append(bytes(self.data[value:stop]))
                    self.budget.spend_strings(1)
                    more, behind = wire.row(self.data, stop, end, STRING_VAL, self.budget)
                    if more:
                        self.budget.spend(ROW_PARTS)
                        self.strings += more
                        return behind
                elif number == MAP_VAL:
                    self._add_map(value, stop, depth + 1)
                elif number == _CONTENT:
                    self.content = value, stop
                elif number == _VARIANT_VAL and self.reader.era.has_variants:
                    self.reader.check_variant(value, stop, depth + 1)
            elif kind == wire.VARINT and number == 1:
                self.dtype = wire.int32(value)
            elif number in VALUE_FIELDS and kind == VALUE_FIELDS[number].kind:
                self.add_single(number, kind, value, stop)
                behind = self.add_run(number, kind, stop, end)
                if behind > stop:
                    return behind
        return end

    def _merge_shape(self, dims: Shape, unknown_rank: Optional[bool]) -> None:
        self.dims = dims if self.dims is None else ranked(self.dims + dims)
        if unknown_rank is not None:
            self.unknown_rank = unknown_rank

    def _add_map(self, start: int, end: int, depth: int) -> None:
        if not self.reader.era.plain_maps:
            self.maps.append(self.reader.map(start, end, depth))
            return
        entries = self.maps[0] if self.maps else {}
        self.reader.entry(entries, start, end, depth)
        self.maps = [entries] if entries else []

    def tensor(self) -> Tensor:
        dtype = _TYPES.get(self.dtype, _INVALID)
        shape = None if self.unknown_rank else self.dims
        found = self.numbers()
        try:
            values = self._values(dtype, found)
        except numerics.Unreadable as error:
            return Tensor(dtype, shape, EMPTY, str(error))
        return Tensor(dtype, shape, values, "", self._omitted(dtype, shape, len(values)))

    def _omitted(self, dtype: DataType, shape: Optional[Shape], count: int) -> int:
        """How many values TensorFlow's rule supplies. tensor_content is always whole, and a map is not TensorFlow's."""
        if not self.reader.era.is_tensorflows or not shapes.is_known(shape) or dtype is DataType.MAP:
            return 0
        start, end = self.content
        return 0 if end > start else max(0, prod(shape or ()) - count)

    def ends_in_values(self, tensor: Tensor, end: int) -> bool:
        """Whether the tensor's values are the only numbers, and stand in one piece before `end` as they are."""
        if len(self.payloads) != 1 or tensor.problem:
            return False
        [(number, place)] = self.payloads.items()
        field = VALUE_FIELDS[number]
        is_view = number in CARRIERS.get(tensor.dtype, ()) and field.width and tensor.values.dtype is field.dtype
        return bool(is_view) and isinstance(place, tuple) and place[1] == end

    def _values(self, dtype: DataType, found: Dict[int, NDArray[Any]]) -> NDArray[Any]:
        carriers = CARRIERS.get(dtype)
        if carriers is None:
            return self._objects(dtype)
        carrier = carriers[0] if carriers[0] in found else carriers[-1] if carriers[-1] in found else 0
        start, end = self.content
        if end > start:
            if carrier:
                raise numerics.Unreadable(f"expected values once, got them in {_NAMES[carrier]} and in tensor_content")
            return numerics.of_content(dtype, self.data, start, end)
        if carrier:
            return numerics.cast(dtype, VALUE_FIELDS[carrier], found[carrier])
        self._refuse_strays(dtype, carriers)
        return np.empty(0, NUMPY[dtype])

    def _objects(self, dtype: DataType) -> NDArray[Any]:
        if dtype is DataType.STRING:
            carrier, values = STRING_VAL, objects(self.strings)
        elif dtype is DataType.MAP:
            carrier, values = MAP_VAL, objects(self.maps)
        else:
            known = f"{dtype.label} ({self.dtype})" if dtype or not self.dtype else f"the unknown type {self.dtype}"
            raise numerics.Unreadable(f"expected a tensor of numbers, strings or maps, got {known}")
        if self.content[1] > self.content[0]:
            raise numerics.Unreadable(f"expected {dtype.label} values in {_NAMES[carrier]}, got tensor_content")
        if not len(values):
            self._refuse_strays(dtype, (carrier,))
        return values

    def _refuse_strays(self, dtype: DataType, carriers: Tuple[int, ...]) -> None:
        """Say in which fields, other than the type's own, values came, rather than that none came."""
        came = [*self.payloads, *[STRING_VAL][: len(self.strings)], *[MAP_VAL][: len(self.maps)]]
        strays = " and ".join(_NAMES[number] for number in sorted(came) if number not in carriers)
        if strays:
            raise numerics.Unreadable(f"expected {dtype.label} values in {_NAMES[carriers[0]]}, got values in {strays}")


_NAMES = {
    STRING_VAL: "string_val",
    MAP_VAL: "map_val",
    **{number: field.name for number, field in VALUE_FIELDS.items()},
}


# Shapes -------------------------------------------------------------------------------------------------------------


def _read_shape(nested: bool, message: bytes, depth: int) -> Tuple[Shape, Optional[bool]]:
    """The dims of a shape message; and unknown_rank where it is told."""
    return _read_nested_shape(message, depth) if nested else (_read_packed_shape(message, depth), None)


_cached_shape = lru_cache(maxsize=1024)(_read_shape)


def _read_nested_shape(message: bytes, depth: int) -> Tuple[Shape, Optional[bool]]:
    """TensorShapeProto {2: repeated Dim {1: size, 2: name}, 3: unknown_rank}."""
    dims: List[int] = []
    unknown_rank = None
    for number, kind, value, end in wire.fields(message, 0, len(message), depth):
        if number == 2 and kind == wire.LENGTH:
            size = _read_dim(message, value, end, depth + 1)
            dims.append(size)
            ranked(dims)
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


def _read_packed_shape(message: bytes, depth: int) -> Shape:
    """TensorShape {1: repeated int64 dims}, packed or not."""
    dims: List[int] = []
    for number, kind, value, end in wire.fields(message, 0, len(message), depth):
        if number == 1 and kind == wire.VARINT:
            dims.append(wire.int64(value))
        elif number == 1 and kind == wire.LENGTH:
            dims.extend(varints.decode(message, value, end, _INT64)[: MAX_RANK + 1].tolist())
        ranked(dims)
    return tuple(dims)
