"""Paths that an archive, a store or a person gives, kept inside one folder. All errors are ValueErrors."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path, PurePosixPath

_MOST_LINKS = 40  # as Linux follows


def relative(path: str) -> PurePosixPath:
    """`path` below some folder, without `.`. Raises ValueError for one that is absolute or leads out."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\\" in path or any(ord(sign) < 32 for sign in path):
        raise ValueError(f"{path!r} leads out of the folder, expected a relative path without '..'")
    return PurePosixPath(*parts)


def follow(root: Path, path: PurePosixPath) -> Path:
    """Where `path` below `root` ends, every link on the way followed by hand: the system would follow one that leads out.

    Raises ValueError for a link that leaves `root`, if only for one step, and for a loop.
    """
    rest, here, links = deque(path.parts), PurePosixPath(), 0
    while rest:
        part = rest.popleft()
        if part == "..":
            if not here.parts:
                raise ValueError(f"{str(path)!r} leads out of the folder by a link")
            here = here.parent
            continue
        here = here / part
        if os.path.islink(root / here):
            links += 1
            aim = os.readlink(root / here)
            if links > _MOST_LINKS or aim.startswith("/"):
                raise ValueError(f"{str(path)!r} leads out of the folder by a link to {aim!r}")
            here = here.parent
            rest.extendleft(reversed(PurePosixPath(aim).parts))
    return root / here


def check_links(root: Path) -> None:
    """Raises ValueError where a link below `root` leads out of it."""
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            if os.path.islink(os.path.join(folder, name)):
                follow(root, PurePosixPath(Path(folder).relative_to(root).as_posix(), name))
