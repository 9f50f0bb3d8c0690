"""Tensors to the arrays a model receives. Judges shapes and text; knows no bytes and no message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Mapping, Optional

import numpy as np

from ..contract.types import DataType
from . import shapes
from .tensor import NUMPY, Shape, Tensor, TensorError, objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WASTE, _WASTE_FREE = (
    16,
    1 << 20,
)  # how many times the text's own bytes an array of fixed width may take, beyond a free MiB


OMITTED_BYTES = 512 << 20  # the most that the omitted values of one tensor may take
_TEXT_BYTES, _CHARACTER_BYTES = 72, 9  # what each string, and each byte of it, may take as bytes and as text


def omitted_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The memory that the values which the tensors' messages leave out will take."""
    return sum(_omitted_bytes(tensor) for tensor in tensors.values() if tensor.omitted or tensor.dtype is DataType.MAP)


def _omitted_bytes(tensor: Tensor) -> int:
    if tensor.dtype is DataType.MAP:
        return sum(map(omitted_bytes, tensor.values))
    if tensor.dtype is DataType.STRING:
        last = tensor.values[-1] if len(tensor.values) else b""
        return tensor.omitted * (_TEXT_BYTES + _CHARACTER_BYTES * len(last))
    return tensor.omitted * NUMPY[tensor.dtype].itemsize


def _completed(tensor: Tensor) -> NDArray[Any]:
    """All values: those of the message, and the last of them again, or zeros (empty strings) where none came.

    TensorFlow's rule: https://www.tensorflow.org/api_docs/python/tf/make_ndarray
    """
    size = _omitted_bytes(tensor)
    if size > OMITTED_BYTES:
        raise TensorError(
            f"expected values, or a shape for which at most {OMITTED_BYTES} bytes of them are left out, got"
            f" {list(tensor.shape or ())} with {len(tensor.values)} values"
        )
    given = len(tensor.values)
    values = np.empty(given + tensor.omitted, tensor.values.dtype)
    values[:given] = tensor.values
    values[given:] = tensor.values[-1] if given else b"" if tensor.dtype is DataType.STRING else 0
    return values


def array(tensor: Tensor, dims: Optional[Shape] = None, *, writable: bool = False) -> NDArray[Any]:
    """The tensor's values in their shape: numbers, objects of bytes for STRING, objects of dict[str, Tensor] for MAP.

    `dims` is the contract's shape (None: any), from which sizes the tensor leaves open are taken; the rules are
    `shapes.resolve`'s. A scalar is a 0-d array. Numbers may be a read-only, unaligned view on the request; with `writable` they
    are copied if they are. Raises TensorError; nothing is repeated or filled to fit a shape but what TensorFlow's messages omit.
    """
    if tensor.problem:
        raise TensorError(tensor.problem)
    values = _completed(tensor) if tensor.omitted else tensor.values
    shape = shapes.resolve(tensor.shape, dims, len(values))
    if writable and not (values.flags.writeable and values.flags.aligned):
        values = values.copy()
    return values.reshape(shape)


def text(values: NDArray[Any], *, binary: bool = False) -> NDArray[Any]:
    """A STRING tensor's array of bytes as models expect it: numpy text (`<U`), as hydrosdk gave it.

    Where that would drop data (numpy strips trailing NULs) or waste memory (one long text among many short ones) it is an object
    array of str. With `binary`, for fields that carry pictures or sound, the bytes stay as they are. Raises TensorError
    for bytes that are not UTF-8.
    """
    if binary:
        return values
    payloads = values.ravel().tolist()
    texts = _decoded(payloads)
    widest = max(map(len, texts), default=0)
    together = "".join(texts)
    wasteful = widest * len(texts) * 4 > _WASTE * len(together) + _WASTE_FREE
    if wasteful or ("\0" in together and any(text.endswith("\0") for text in texts)):
        return objects(texts).reshape(values.shape)
    return np.array(texts, f"<U{max(widest, 1)}").reshape(values.shape)


def _decoded(payloads: List[bytes]) -> List[str]:
    try:
        return list(map(bytes.decode, payloads))
    except UnicodeDecodeError as error:
        at, byte = payloads.index(error.object), error.object[error.start]
        raise TensorError(
            f"expected UTF-8 text, got byte 0x{byte:02x} at offset {error.start} of the string at [{at}]"
            " (a string field of profile image, audio or video takes any bytes)"
        ) from None
