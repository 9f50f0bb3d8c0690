"""Tensors to bytes: the Predict messages of every era, written over numpy. Converts nothing, knows no contract.

Values always travel in the typed field that Hydrosphere's gateway reads, never in tensor_content. Large arrays are copied once,
into the message.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Tuple, Union

import numpy as np

from .. import wire
from ..contract.types import DataType
from ..protocols import Era
from . import shapes, varints
from .decode import Request
from .tensor import CARRIERS, MAP_VAL, NUMPY, STRING_VAL, VALUE_FIELDS, Shape, Tensor, TensorError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALL = 4096  # bytes up to which copying an array costs less than handing it on
_CACHED_CHARACTERS = 200  # of a request's own names, of which 1024 pairs are remembered
Parts = List[Union[bytes, memoryview]]


def encode_request(era: Era, request: Request) -> bytes:
    """The PredictRequest's bytes. A tensor without shape is sent without one. Raises TensorError."""
    parts: Parts = [_spec(1, era, request)]
    _add_entries(parts, era, era.inputs, request.inputs)
    parts += [wire.length_field(3, name.encode()) for name in request.outputs if era.is_tensorflows]
    return b"".join(parts)


def encode_response(era: Era, outputs: Mapping[str, Tensor], answered: Optional[Request] = None) -> bytes:
    """The PredictResponse's bytes, outputs in the mapping's order. Each tensor carries a shape: the gateway refuses one
    without. `answered` is the request, with the version and the signature that answer it. Raises TensorError."""
    wanted = answered.outputs if answered is not None and answered.outputs else outputs
    parts: Parts = []
    _add_entries(parts, era, 1, {name: shaped(outputs[name]) for name in wanted})
    if era.answers_spec and answered is not None:
        parts.append(_spec(2, era, answered))
    return b"".join(parts)


def shaped(tensor: Tensor) -> Tensor:
    """The tensor with a shape, where it has none the one that its values have by themselves."""
    if tensor.shape is not None:
        return tensor
    return tensor._replace(shape=shapes.resolve(None, None, len(tensor.values)))


def _spec(field: int, era: Era, request: Request) -> bytes:
    """ModelSpec {1: name, 2: Int64Value version, 3: signature_name}."""
    name, signature = request.model_name, request.signature_name
    made = _cached_spec if len(name) + len(signature) <= _CACHED_CHARACTERS else _made_spec
    return made(field, era.model_spec, name, request.model_version, signature)


def _made_spec(field: int, known: Tuple[int, ...], name: str, version: Optional[int], signature: str) -> bytes:
    parts = []
    if name and 1 in known:
        parts.append(wire.length_field(1, name.encode()))
    if version is not None and 2 in known:
        parts.append(wire.length_field(2, wire.varint_field(1, version) if version else b""))
    if signature and 3 in known:
        parts.append(wire.length_field(3, signature.encode()))
    return wire.length_field(field, b"".join(parts)) if parts else b""


_cached_spec = lru_cache(maxsize=1024)(_made_spec)  # all answers of a model have the same


def _add_entries(parts: Parts, era: Era, number: int, tensors: Mapping[str, Tensor]) -> int:
    """Append a map<string, Tensor> as field `number`; the bytes it takes."""
    total = 0
    for name, tensor in tensors.items():
        place = len(parts)
        parts.append(b"")
        size = _add_tensor(parts, era, tensor)
        inner = _key(name) + wire.length_header(2, size)
        parts[place] = header = wire.length_header(number, len(inner) + size) + inner
        total += len(header) + size
    return total


@lru_cache(maxsize=1024)
def _key(name: str) -> bytes:
    return wire.length_field(1, name.encode())


@lru_cache(maxsize=1024)
def _head(nested_dims: bool, dtype: DataType, shape: Optional[Shape]) -> bytes:
    """The fields before the values: dtype and tensor_shape."""
    head = wire.varint_field(1, dtype) if dtype else b""
    if shape is None:
        return head
    if nested_dims:
        dims = b"".join(wire.length_field(2, wire.varint_field(1, dim) if dim else b"") for dim in shape)
    else:
        dims = wire.length_field(1, b"".join(map(wire.varint, shape))) if shape else b""
    return head + wire.length_field(2, dims)


def _add_tensor(parts: Parts, era: Era, tensor: Tensor) -> int:
    """Append the tensor message; the bytes it takes."""
    if tensor.problem:
        raise TensorError(tensor.problem)
    head = _head(era.nested_dims, tensor.dtype, tensor.shape)
    parts.append(head)
    if not len(tensor.values):
        return len(head)
    if tensor.dtype is DataType.STRING:
        return len(head) + add_strings(parts, STRING_VAL, tensor.values)
    if tensor.dtype is DataType.MAP:
        return len(head) + _add_maps(parts, era, tensor.values)
    number = CARRIERS[tensor.dtype][0]
    payload, size = packed(tensor.dtype, VALUE_FIELDS[number].width, tensor.values)
    before = wire.length_header(number, size)
    parts += (before, payload)
    return len(head) + len(before) + size


def packed(dtype: DataType, width: int, values: NDArray[Any]) -> Tuple[Union[bytes, memoryview], int]:
    """The values in a row, of `width` bytes each or as varints (0), and how many bytes that is."""
    values = np.ascontiguousarray(values, NUMPY[dtype])
    if dtype is DataType.HALF:
        values = values.view("<u2")
    elif dtype is DataType.BFLOAT16:
        values = (values.view("<u4") >> np.uint32(16)).astype("<u2")
    if not width:
        payload = varints.encode(values)
        return payload, len(payload)
    return values.data if values.nbytes > _SMALL else values.tobytes(), values.nbytes


def add_strings(parts: Parts, number: int, values: NDArray[Any]) -> int:
    """Append strings as field `number`; the bytes they take."""
    sizes = list(map(len, values))
    headers = {size: wire.length_header(number, size) for size in set(sizes)}
    heads = [headers[size] for size in sizes]
    parts += chain.from_iterable(zip(heads, values))
    return sum(sizes) + sum(map(len, heads))


def _add_maps(parts: Parts, era: Era, values: NDArray[Any]) -> int:
    if era.plain_maps:
        if len(values) > 1:
            raise TensorError(
                f"expected one map, which is all that era {era.name} can carry in a tensor, got {len(values)}"
            )
        return _add_entries(parts, era, MAP_VAL, values[0])
    total = 0
    for tensors in values:
        place = len(parts)
        parts.append(b"")
        size = _add_entries(parts, era, 1, tensors)
        parts[place] = header = wire.length_header(MAP_VAL, size)
        total += len(header) + size
    return total
