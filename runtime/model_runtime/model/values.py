"""Tensors to the values a model receives, and the values it returns to tensors, as a contract's fields say.

Every violation is collected with its path; nothing is converted at a loss. Knows no era's bytes and calls no code.
"""

from __future__ import annotations

import logging
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from .. import tensors
from ..contract import DataType, Field, Shape
from ..contract.check import listed, shape_matches, unknown_names
from ..contract.model import MAX_DEPTH, shape_text
from ..contract.types import BINARY_PROFILES
from ..errors import MAX_VIOLATIONS, Violation
from ..tensors import Tensor, TensorError, foreign

log = logging.getLogger(__name__)

Fields = Tuple[Field, ...]


# What a model receives ----------------------------------------------------------------------------------------------


def received(fields: Fields, sent: Mapping[str, Tensor], path: str, violations: List[Violation]) -> Dict[str, Any]:
    """Name to numpy value for each field; what breaks the contract is appended to `violations` instead."""
    values: Dict[str, Any] = {}
    for field in fields:
        if len(violations) >= MAX_VIOLATIONS:
            return values
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
    if tensor.omitted and not shape_matches(field.shape, tensor.shape or ()):  # before they are supplied
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
        if len(violations) >= MAX_VIOLATIONS:
            break
        nested = field.fields or tuple(map(Field, entry))
        values[index] = received(nested, entry, _element(path, index), violations)
    return values


# What a model returned ----------------------------------------------------------------------------------------------


def returned(
    fields: Fields,
    values: Mapping[str, Any],
    path: str,
    violations: List[Violation],
    *,
    details: bool = True,
    depth: int = 0,
) -> Dict[str, Tensor]:
    """A tensor of the declared type and shape for each field. Values that no field declares are left out.

    The values may be of foreign classes: whatever reading one of them raises is a violation, with the text only if `details`.
    """
    answer: Dict[str, Tensor] = {}
    for field in fields:
        here = f"{path}.{field.name}"
        if len(violations) >= MAX_VIOLATIONS:
            break
        value = values.get(field.name)
        if value is None:
            came = "None" if field.name in values else _names(values)
            violations.append(Violation(here, f"expected {field.type_text}, got {came}"))
            continue
        try:
            answer[field.name] = _returned(field, value, here, violations, details, depth)
        except TensorError as error:
            violations.append(Violation(here, str(error)))
        except BaseException as error:  # noqa: BLE001  # raised by the value's own code
            told = foreign.describe(error, details=details)
            came = f"{foreign.type_name(value)} that cannot be read: {told}"
            violations.append(Violation(here, f"expected {field.type_text}, got {came}"))
            foreign.log_error(log, "an output cannot be read", error, output=here)
    return answer


def _returned(field: Field, value: Any, path: str, violations: List[Violation], details: bool, depth: int) -> Tensor:
    if isinstance(value, Tensor):
        value = _value(value, field.shape)
    tensor = (
        _returned_maps(field, value, path, violations, details, depth)
        if _is_map(field, value)
        else tensors.tensor(value, field.dtype)
    )
    shape = fitted(tensor.shape or (), field.shape)
    if shape is None:
        raise TensorError(f"expected {field.type_text}, got {_described(tensor)}")
    return tensor._replace(shape=shape)


def _is_map(field: Field, value: Any) -> bool:
    return field.dtype is DataType.MAP or (field.dtype is DataType.ANY and tensors.dtype_of(value) is DataType.MAP)


def _returned_maps(
    field: Field, value: Any, path: str, violations: List[Violation], details: bool, depth: int
) -> Tensor:
    if depth >= MAX_DEPTH:
        raise TensorError(f"expected at most {MAX_DEPTH} levels of nested maps, got more")
    shape, entries = tensors.mappings(value)
    answers = []
    for index, entry in zip(np.ndindex(*shape), entries):
        if len(violations) >= MAX_VIOLATIONS:
            break
        plain = foreign.mapping(entry)
        nested = field.fields or tuple(map(Field, _wire_names(plain, len(entry))))
        here = _element(path, index)
        answers.append(returned(nested, plain, here, violations, details=details, depth=depth + 1))
    return tensors.map_tensor(shape, answers)


def _wire_names(plain: Mapping[str, Any], count: int) -> List[str]:
    """The names of a map whose fields no contract declares: all of them go on the wire."""
    if count != len(plain):
        raise TensorError("expected text as the names of a map, got other keys among them")
    for name in plain:
        if not _is_utf8(name):
            raise TensorError("expected names that UTF-8 can hold in a map, got others")
    return list(plain)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


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
    return f"only {listed(values)}" if values else "nothing"


def _element(path: str, index: Tuple[int, ...]) -> str:
    return f"{path}[{','.join(map(str, index))}]" if index else path
