"""Tensors to the values a model receives, and the values it returns to tensors, as a contract's fields say.

Every violation is collected with its path; nothing is converted at a loss. Knows no era's bytes and calls no code.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import tensors
from ..contract import DataType, Field, Shape
from ..contract.check import shape_matches, unknown_names
from ..contract.model import shape_text
from ..contract.types import BINARY_PROFILES
from ..errors import Violation
from ..tensors import Tensor, TensorError

Fields = Tuple[Field, ...]


# What a model receives ----------------------------------------------------------------------------------------------


def received(fields: Fields, sent: Mapping[str, Tensor], path: str, violations: List[Violation]) -> Dict[str, Any]:
    """Name to numpy value for each field; what breaks the contract is appended to `violations` instead."""
    values: Dict[str, Any] = {}
    for field in fields:
        tensor = sent.get(field.name)
        here = f"{path}.{field.name}"
        if tensor is None:
            violations.append(Violation(here, f"expected {field.type_text}, got nothing"))
            continue
        try:
            values[field.name] = _received(field, tensor, here, violations)
        except TensorError as error:
            violations.append(Violation(here, str(error)))
    if len(sent) > len(fields) or len(values) < len(fields):
        violations.extend(unknown_names(fields, sent, path))
    return values


def _received(field: Field, tensor: Tensor, path: str, violations: List[Violation]) -> Any:
    if field.dtype is not tensor.dtype and (field.dtype is not DataType.ANY or tensor.dtype is DataType.INVALID):
        raise TensorError(f"expected {field.type_text}, got {_described(tensor)}")
    array = tensors.array(tensor, field.shape, writable=True)
    if not shape_matches(field.shape, array.shape):
        raise TensorError(f"expected {field.type_text}, got {tensor.dtype.label}{shape_text(array.shape)}")
    if tensor.dtype is DataType.STRING:
        array = tensors.text(array, binary=field.profile in BINARY_PROFILES)
    elif tensor.dtype is DataType.MAP:
        array = _received_maps(field, array, path, violations)
    return array[()] if array.ndim == 0 else array  # a scalar: np.float64, np.str_, a dict


def _received_maps(field: Field, array: Any, path: str, violations: List[Violation]) -> Any:
    """The same array with a dict of values in place of each dict of tensors."""
    values = np.empty(array.shape, dtype=object)
    for index, entry in np.ndenumerate(array):
        nested = field.fields or tuple(map(Field, entry))
        values[index] = received(nested, entry, _element(path, index), violations)
    return values


# What a model returned ----------------------------------------------------------------------------------------------


def returned(fields: Fields, values: Mapping[str, Any], path: str, violations: List[Violation]) -> Dict[str, Tensor]:
    """A tensor of the declared type and shape for each field. Values that no field declares are left out."""
    answer: Dict[str, Tensor] = {}
    for field in fields:
        here = f"{path}.{field.name}"
        if values.get(field.name) is None:
            violations.append(Violation(here, f"expected {field.type_text}, got {_names(values)}"))
            continue
        try:
            answer[field.name] = _returned(field, values[field.name], here, violations)
        except TensorError as error:
            violations.append(Violation(here, str(error)))
    return answer


def _returned(field: Field, value: Any, path: str, violations: List[Violation]) -> Tensor:
    if isinstance(value, Tensor):
        value = _value(value, field.shape)
    is_map = field.dtype is DataType.MAP or (field.dtype is DataType.ANY and tensors.dtype_of(value) is DataType.MAP)
    tensor = _returned_maps(field, value, path, violations) if is_map else tensors.tensor(value, field.dtype)
    shape = fitted(tensor.shape or (), field.shape)
    if shape is None:
        raise TensorError(f"expected {field.type_text}, got {_described(tensor)}")
    return tensor._replace(shape=shape)


def _returned_maps(field: Field, value: Any, path: str, violations: List[Violation]) -> Tensor:
    shape, entries = tensors.mappings(value)
    answers = []
    for index, entry in zip(np.ndindex(*shape), entries):
        nested = field.fields or tuple(map(Field, entry))
        answers.append(returned(nested, entry, _element(path, index), violations))
    return tensors.map_tensor(shape, answers)


def _value(tensor: Tensor, dims: Optional[Shape]) -> Any:
    """A message the model made itself, as a value like any other."""
    return tensors.array(tensor, dims)


def fitted(shape: Shape, dims: Optional[Shape]) -> Optional[Shape]:
    """`shape` as the contract has it: itself, or with dimensions of size 1 added or dropped where just one way fits; else None.

    Models return (3,) for [-1, 1] and (1,) for a scalar; Hydrosphere's gateway lets both pass, and the values are the same.
    """
    if dims is None or shape_matches(dims, shape):
        return shape
    ways = list(_placements(tuple(size for size in shape if size != 1), dims))
    return ways[0] if len(ways) == 1 else None


def _placements(sizes: Sequence[int], dims: Sequence[int]) -> Iterator[Shape]:
    """Each way to put the sizes, in order, into the contract's dimensions, with 1 everywhere else."""
    if not dims:
        if not sizes:
            yield ()
        return
    if len(sizes) > len(dims):
        return
    if sizes and dims[0] in (-1, sizes[0]):
        yield from ((sizes[0], *rest) for rest in _placements(sizes[1:], dims[1:]))
    if dims[0] in (-1, 1):
        yield from ((1, *rest) for rest in _placements(sizes, dims[1:]))


# Words --------------------------------------------------------------------------------------------------------------


def _described(tensor: Tensor) -> str:
    """`float32[1,64]`, or without a shape message `3 values of float32`."""
    label = tensor.dtype.label if tensor.dtype is not DataType.INVALID else "no type"
    return f"{label}{shape_text(tensor.shape)}" if tensor.shape is not None else f"{label} without a shape"


def _names(values: Mapping[str, Any]) -> str:
    return f"only {', '.join(map(str, values))}" if values else "nothing"


def _element(path: str, index: Tuple[int, ...]) -> str:
    return f"{path}[{','.join(map(str, index))}]" if index else path
