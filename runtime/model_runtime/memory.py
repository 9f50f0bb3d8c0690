"""How glibc's malloc treats large buffers. Standard library only: both the server and the model process call this once, at start.

By default it gives each buffer of some MiB back to the kernel and has it filled with zeros page by page at the next request,
which costs more than everything else that is done with a tensor of 4 MiB.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_MIB = 1 << 20
_KEPT_BYTES = 256 * _MIB  # what may stay in hand when it is free
_LARGEST_FROM_HEAP = 32 * _MIB  # the most that mallopt takes
_ARENAS = 2  # each keeps its own


def keep_large_buffers() -> None:
    """Lets malloc reuse buffers of up to 32 MiB. Does nothing where there is no glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)
