"""This process's memory: how malloc treats large buffers, how much is resident, and who may read it. Standard library only.

Both the server and the model process call `keep_large_buffers` once, at start.

By default glibc gives each buffer of some MiB back to the kernel and has it filled with zeros page by page at the next request,
which costs more than everything else that is done with a tensor of 4 MiB.
"""

from __future__ import annotations

import os
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_SET_DUMPABLE = 4  # linux/prctl.h
_MIB = 1 << 20
_KEPT_BYTES = 256 * _MIB  # what may stay in hand when it is free
_LARGEST_FROM_HEAP = 32 * _MIB  # the most that mallopt takes
_ARENAS = 2  # each keeps its own


def keep_large_buffers() -> None:
    """Lets malloc reuse buffers of up to 32 MiB. Does nothing where there is no glibc."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Returns what malloc keeps free to the kernel. Does nothing where there is no glibc."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def hide() -> bool:
    """Closes this process's memory and environment to others of the same user, and to core dumps. Returns whether it could."""
    prctl = _function("prctl")
    return prctl is not None and prctl(_SET_DUMPABLE, 0, 0, 0, 0) == 0


def _function(name: str) -> Any:
    """A function of the C library; None where there is none, or no way to it from this Python."""
    try:
        import ctypes

        return getattr(ctypes.CDLL(None), name)
    except (ImportError, OSError, AttributeError):
        return None


def resident() -> int:
    """Bytes of this process that are in memory. 0 where the kernel does not say."""
    try:
        with open("/proc/self/statm", "rb") as told:
            return int(told.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return 0
