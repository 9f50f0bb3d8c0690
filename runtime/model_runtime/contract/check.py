"""Whether arrays keep a contract: names, types, ranks, dimensions, nested fields. All violations at once, each with its path.

Knows arrays only by their `dtype` and `shape`: no numpy here, so that the operator can import the contract without it.
"""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Optional, Protocol, Tuple

from ..errors import Violation
from .model import Field, Shape, shape_text
from .types import DataType

# What a message to a person holds of the names that a stranger sent or a contract declares.
_MOST_UNKNOWN, _MOST_LISTED, _NAME_CHARACTERS = 10, 20, 100


class Typed(Protocol):
    """A numpy array, or anything else that says its type (a numpy dtype, or a DataType) and shape."""

    @property
    def dtype(self) -> Any: ...
    @property
    def shape(self) -> Tuple[int, ...]: ...


def check(fields: Tuple[Field, ...], arrays: Mapping[str, Any], path: str = "inputs") -> List[Violation]:
    """What in `arrays` (name to array; a map is an array of dicts, or one dict) breaks the promise of `fields`."""
    violations: List[Violation] = []
    for field in fields:
        array = arrays.get(field.name)
        if array is None:
            violations.append(Violation(f"{path}.{field.name}", f"expected {field.type_text}, got nothing"))
        elif isinstance(array, Mapping):
            _check_map(field, array, f"{path}.{field.name}", violations)
        elif not (dtype_matches(field.dtype, array.dtype) and shape_matches(field.shape, array.shape)):
            violations.append(Violation(f"{path}.{field.name}", f"expected {field.type_text}, got {_text(array)}"))
        elif field.fields:
            _check_maps(field, array, f"{path}.{field.name}", violations)
    if len(arrays) > len(fields) - len(violations):
        violations.extend(unknown_names(fields, arrays, path))
    return violations


def unknown_names(fields: Tuple[Field, ...], arrays: Mapping[str, Any], path: str) -> List[Violation]:
    """A violation for each of the first names that no field declares. The first of them says what is declared."""
    declared = {field.name for field in fields}
    unknown = [name for name in arrays if name not in declared]
    if not unknown:
        return []
    expected = f", expected {listed(field.name for field in fields) or 'no names at all'}"
    violations = [
        Violation(f"{path}.{shortened(name)}", f"not in the contract{expected if not at else ''}")
        for at, name in enumerate(unknown[:_MOST_UNKNOWN])
    ]
    if len(unknown) > _MOST_UNKNOWN:
        violations.append(Violation(path, f"names that are not in the contract: {len(unknown) - _MOST_UNKNOWN} more"))
    return violations


def listed(names: Iterable[str]) -> str:
    """`a, b, c`: the first of the names, each cut where it is too long, and how many more there are."""
    every = list(names)
    shown = ", ".join(map(shortened, every[:_MOST_LISTED]))
    return shown if len(every) <= _MOST_LISTED else f"{shown} and {len(every) - _MOST_LISTED} more"


def shortened(name: str) -> str:
    """The name, cut where it is too long for a message."""
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def dtype_matches(expected: DataType, got: Any) -> bool:
    """Whether a DataType or numpy dtype is the declared type, exactly. Text may be held in numpy's U, S, O or StringDType."""
    if expected is DataType.ANY:
        return True
    if isinstance(got, DataType):
        return got is expected
    kind, size = expected.numpy
    if kind == "U":
        return got.kind in "USOT"
    return bool(got.kind == kind and (got.itemsize == size or kind == "O"))


def shape_matches(expected: Optional[Shape], got: Tuple[int, ...]) -> bool:
    if expected is None or expected == got:
        return True
    if len(expected) != len(got):
        return False
    for want, dim in zip(expected, got):  # noqa: SIM110  # on the way of every request: a generator costs twice as much
        if want not in (-1, dim):
            return False
    return True


def _check_map(field: Field, array: Mapping[str, Any], path: str, violations: List[Violation]) -> None:
    """One dict stands for a scalar map."""
    if field.dtype not in (DataType.MAP, DataType.ANY) or not shape_matches(field.shape, ()):
        violations.append(Violation(path, f"expected {field.type_text}, got a map"))
    elif field.fields:
        violations.extend(check(field.fields, array, path))


def _check_maps(field: Field, array: Any, path: str, violations: List[Violation]) -> None:
    for index, element in enumerate(array.ravel()):
        here = f"{path}[{index}]" if array.shape else path
        if isinstance(element, Mapping):
            violations.extend(check(field.fields, element, here))
        else:
            violations.append(Violation(here, f"expected a map of {field.type_text}, got {type(element).__name__}"))


def _text(array: Typed) -> str:
    name = array.dtype.label if isinstance(array.dtype, DataType) else _numpy_label(array.dtype)
    return name + shape_text(tuple(array.shape))


def _numpy_label(dtype: Any) -> str:
    for candidate in _BY_PREFERENCE:
        if candidate.numpy == (dtype.kind, dtype.itemsize):
            return candidate.label
    return "string" if dtype.kind in "UST" else str(dtype)


# Where numpy holds two types alike, the one that numpy means.
_BY_PREFERENCE = [dtype for dtype in DataType if not dtype.name.startswith(("Q", "BFLOAT"))]
