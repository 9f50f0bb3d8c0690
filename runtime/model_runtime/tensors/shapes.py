"""What shape a tensor's values have, from its own dims, the contract's, and how many values came. Pure arithmetic on
Python integers: dims that lie can neither overflow nor allocate.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Optional

from .tensor import MAX_RANK, Shape, TensorError

_MAX_ELEMENTS = 1 << 58  # numpy counts an array's bytes (16 for each at most) in 63 bits, whether or not a dim is 0


def is_known(shape: Optional[Shape]) -> bool:
    """Whether the shape leaves nothing open."""
    return shape is not None and len(shape) <= MAX_RANK and (not shape or min(shape) >= 0)


@lru_cache(maxsize=4096)
def resolve(shape: Optional[Shape], dims: Optional[Shape], count: int) -> Shape:
    """The true shape of `count` values: no -1 in it, and its product is `count`. Raises TensorError where that is not certain.

    `shape` is the tensor's own (None: it carries none), `dims` what the contract says (None: anything). Sizes the tensor
    leaves open (-1) are taken from the contract where the ranks agree; one that is still open follows from the count;
    several follow only if nothing but ones fits.
    """
    wanted = shape if shape is not None and -1 not in shape else _filled(shape, dims, count)
    if len(wanted) > MAX_RANK:
        raise TensorError(f"expected at most {MAX_RANK} dimensions, got more")
    if wanted and min(wanted) < 0:
        return _inferred(wanted, count)
    if prod(wanted) != count:
        raise TensorError(f"expected {prod(wanted)} values for shape {list(wanted)}, got {count}")
    return _representable(wanted)


def _filled(shape: Optional[Shape], dims: Optional[Shape], count: int) -> Shape:
    if shape is None:
        if dims is not None:
            return dims
        return () if count == 1 else (count,)
    if dims is not None and len(dims) == len(shape) and -1 in shape:
        return tuple(promised if dim == -1 else dim for dim, promised in zip(shape, dims))
    return shape


def _inferred(wanted: Shape, count: int) -> Shape:
    if min(wanted) < -1:
        raise TensorError(f"expected dimensions of -1 (unknown) or more, got {list(wanted)}")
    unknown, known = wanted.count(-1), prod(dim for dim in wanted if dim != -1)
    if count == 0 and (known == 0 or unknown > 1):
        raise TensorError(f"expected values or known sizes, got none for shape {list(wanted)}: any size would fit")
    if known == 0 or count % known:
        raise TensorError(f"expected a multiple of {known} values for shape {list(wanted)}, got {count}")
    if unknown > 1 and count != known:
        raise TensorError(
            f"expected one unknown size, got shape {list(wanted)} and {count} values: several sizes would fit"
        )
    return _representable(tuple(count // known if dim == -1 else dim for dim in wanted))


def _representable(found: Shape) -> Shape:
    """Only dims beside a 0 can still be too large: numpy refuses them although the array takes no memory."""
    if 0 in found and prod(dim for dim in found if dim) > _MAX_ELEMENTS:
        raise TensorError(f"expected a shape that numpy can hold, got {list(found)}")
    return found
