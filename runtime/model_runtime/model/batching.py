"""Several requests as one call of the model: rows put together, the answer taken apart. Never waits for more.

Only on request: the author promises that each row of the outputs depends on the same row of the inputs alone. The contract must
have an unknown first dimension everywhere. The trial at start compares requests together and alone. It can show that the promise
is broken; it can never prove that it is kept, so it only ever refuses.
"""

from __future__ import annotations

import math
from typing import Any, Dict, Hashable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from ..contract import DataType, Field, Signature
from ..tensors import Tensor
from .values import Fields

TRIAL_SECONDS = 20.0  # for all trials of a signature; what has not been tried then is the author's promise alone
# A matrix product's last digits depend on how many rows it has.
_CLOSE = {2: 1e-2, 4: 1e-4, 8: 1e-4, 16: 1e-4}  # by the size of a floating-point number, relative to the largest value


def allowed(signature: Signature) -> bool:
    """Returns True if the contract lets rows of several requests stand in one call."""
    return bool(signature.inputs) and all(map(_is_batch, (*signature.inputs, *signature.outputs)))


def _is_batch(field: Field) -> bool:
    return bool(field.shape) and field.shape[0] == -1  # type: ignore[index]


def key(inputs: Mapping[str, Any]) -> Hashable:
    """Requests with the same key fit into one call: same types, same sizes but for the first."""
    return tuple(
        (name, value.dtype.kind, value.dtype.itemsize if value.dtype.kind not in "US" else 0, value.shape[1:])
        for name, value in inputs.items()
    )


def rows(inputs: Mapping[str, Any]) -> Optional[int]:
    """How many rows a request has; None where its inputs disagree, or have none."""
    sizes = {len(value) for value in inputs.values()}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else None


def joined(requests: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def parted(outputs: Mapping[str, Tensor], sizes: Sequence[int]) -> Optional[List[Dict[str, Tensor]]]:
    """Each request's own rows of the outputs, as views; None where an output has not as many rows as went in."""
    total = sum(sizes)
    if any(not tensor.shape or tensor.shape[0] != total for tensor in outputs.values()):
        return None
    parts: List[Dict[str, Tensor]] = []
    start = 0
    for size in sizes:
        parts.append({name: _slice(tensor, start, size) for name, tensor in outputs.items()})
        start += size
    return parts


def _slice(tensor: Tensor, start: int, size: int) -> Tensor:
    shape = tensor.shape or ()
    width = len(tensor.values) // shape[0]
    return tensor._replace(shape=(size, *shape[1:]), values=tensor.values[start * width : (start + size) * width])


# The trial ----------------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """Requests that must get the same answers together as alone, and what is special about their rows."""

    name: str
    requests: List[Dict[str, Any]]


def trials(fields: Fields) -> Iterator[Trial]:
    """Yields the trials of a signature. Each known kind of dependence (scaling, sorting, filling, padding) fails one."""
    has_floats = any(field.dtype.numpy and field.dtype.numpy[0] in "fc" for field in fields)
    for name, sizes, numbers, texts in _TRIALS:
        if has_floats or all(map(math.isfinite, numbers)):
            yield Trial(name, list(_requests(fields, sizes, numbers, texts)))


# Sizes of the requests, and the values of their rows, in order: numbers and texts.
_TRIALS: List[Tuple[str, Sequence[int], Sequence[float], Sequence[str]]] = [
    ("different rows", (1, 1), (0.5, 0.75), ("a", "b")),
    ("requests of several rows", (1, 2, 3), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), ("a", "b", "c", "d", "e", "f")),
    ("descending rows", (1, 1, 1, 2), (5, 4, 3, 2, 1), ("e", "d", "c", "b", "a")),
    ("equal rows", (1, 1, 2, 1), (1, 1, 1, 2, 1), ("a", "a", "a", "b", "a")),
    ("a large row next to small ones", (1, 1, 1), (0.25, 100, 0.5), ("a", "z" * 100, "b")),
    ("large rows of many sizes", (1,) * 6, (3, 200, 1e3, 1e6, 1e12, 7), ("1", "22", "x", "1e6", "Ab", "7")),
    ("a row at the limit of its type", (1, 1, 1), (1, 1e300, 2), ("1", "10", "ten")),
    ("a row of the lowest values", (1, 1, 1), (1, -1e300, 2), ("word", "1", "-5")),
    ("an infinite row", (1, 1, 1), (1, float("inf"), 2), ("1", "inf", "2")),
    ("texts of several alphabets", (1, 1, 1, 1), (1, 2, 3, 4), ("abc", "\u00e9t\u00e9", "\u4f60\u597d", "ABC")),
    ("a row of zeros", (1, 1, 2), (1, 0, 2, 0), ("a", "", "b", "")),
    ("negative rows", (2, 1, 1), (1, -2, 3, -40), ("a", "B", "c", "D")),
    ("a row of NaN", (1, 1, 1), (1, float("nan"), 3), ("1", "2", "3")),
    ("NaN next to other rows", (2, 1, 2), (float("nan"), 1, 3, 5, float("nan")), ("1", "2", "3", "4", "5")),
    ("texts of different lengths", (1, 1, 1), (1, 2, 3), ("a", "a longer text of several words", "")),
]


def _requests(
    fields: Fields, sizes: Sequence[int], numbers: Sequence[float], texts: Sequence[str]
) -> Iterator[Dict[str, Any]]:
    start = 0
    for size in sizes:
        rows_of = slice(start, start + size)
        yield {field.name: _values(field, numbers[rows_of], texts[rows_of]) for field in fields}
        start += size


def _values(field: Field, numbers: Sequence[float], texts: Sequence[str]) -> Any:
    """One array with a row for each number, or text. Within a row the values differ a little, from column to column."""
    shape = (len(numbers), *(1 if dim == -1 else dim for dim in (field.shape or ())[1:]))
    width = int(np.prod(shape[1:], dtype=int))
    if field.dtype is DataType.STRING:
        return np.array([text for text in texts for _ in range(width)]).reshape(shape)
    kind, size = field.dtype.numpy
    columns = 1 + np.arange(width) / max(1, width) / 4 if kind in "fc" else np.ones(width)
    dtype = np.dtype(f"{kind}{size}")
    if kind in "iu":
        limits = np.iinfo(dtype)
        rows: Any = np.array([min(max(round(number), limits.min), limits.max) for number in numbers], dtype)
        return np.repeat(rows, width).reshape(shape)
    values: Any = np.array(numbers, dtype=np.float64)[:, None] * columns
    if kind == "b":
        values = np.round(np.abs(values)) % 2
    with np.errstate(over="ignore"):  # infinite where the type ends earlier
        return values.reshape(shape).astype(dtype)


def can_try(signature: Signature) -> bool:
    """Returns True if the trial can make up inputs: not for maps and fields of any type."""
    return all(field.dtype not in (DataType.MAP, DataType.ANY) for field in signature.inputs)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype is not other.dtype:
        return False
    if one.values.dtype.kind in "fc":
        return _is_close(one.values, other.values)
    if one.dtype is DataType.MAP:
        return all(same(a, b) for a, b in zip(one.values, other.values))
    return bool(np.array_equal(one.values, other.values))


def _is_close(one: Any, other: Any) -> bool:
    with np.errstate(all="ignore"):
        finite = np.abs(np.concatenate([one, other]).astype(np.complex128))
        finite = finite[np.isfinite(finite)]
        close = _CLOSE.get(one.dtype.itemsize // (2 if one.dtype.kind == "c" else 1), 1e-4)
        largest = float(finite.max()) if finite.size else 0.0
        return bool(np.allclose(one, other, rtol=close, atol=close * 0.01 * largest, equal_nan=True))
