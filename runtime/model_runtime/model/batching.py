"""Several requests as one call of the model: rows put together, the answer taken apart. Never waits for more.

Only where the contract has an unknown first dimension everywhere, and where a trial at start showed that the model treats its
rows one by one: a softmax over a vector of unknown length has such a contract too, and must never see two requests at once.
"""

from __future__ import annotations

from typing import Any, Dict, Hashable, List, Mapping, Optional, Sequence

import numpy as np

from ..contract import DataType, Field, Signature
from ..tensors import Tensor
from .values import Fields

_CLOSE = 1e-3  # a matrix product's last digits depend on how many rows it has


def allowed(signature: Signature) -> bool:
    """Whether the contract lets rows of several requests stand in one call."""
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


def trial_inputs(fields: Fields) -> List[Dict[str, Any]]:
    """Two requests of one row each, with values that differ: enough to see whether rows look at each other."""
    random = np.random.RandomState(7)
    return [{field.name: _values(field, random, number) for field in fields} for number in range(2)]


def _values(field: Field, random: np.random.RandomState, number: int) -> Any:
    shape = tuple(1 if dim == -1 else dim for dim in field.shape or ())
    if field.dtype is DataType.STRING:
        return np.full(shape, str(number + 1))
    kind, size = field.dtype.numpy
    if kind in "fc":
        return random.random_sample(shape).astype(f"{kind}{size}")
    return np.full(shape, number + 1).astype(f"{kind}{size}")


def can_try(signature: Signature) -> bool:
    """Whether the trial can make up inputs: not for maps and fields of any type."""
    return all(field.dtype not in (DataType.MAP, DataType.ANY) for field in signature.inputs)


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype is not other.dtype:
        return False
    if one.values.dtype.kind in "fc":
        return bool(np.allclose(one.values, other.values, rtol=_CLOSE, atol=_CLOSE, equal_nan=True))
    if one.dtype is DataType.MAP:
        return all(same(a, b) for a, b in zip(one.values, other.values))
    return bool(np.array_equal(one.values, other.values))
