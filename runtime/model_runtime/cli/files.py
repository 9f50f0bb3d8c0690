"""Files that a person names: read whole, up to a limit."""

from __future__ import annotations

import errno
from pathlib import Path

MIB = 1 << 20


def read(path: Path, limit: int) -> bytes:
    """Returns the file's bytes. Raises OSError, also for a file of more than `limit` bytes (a device has no end)."""
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"expected at most {limit // MIB} MiB, got more")
    return data
