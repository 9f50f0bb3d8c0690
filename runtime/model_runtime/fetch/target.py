"""Where fetched files go: put together aside, moved into place whole, and remembered, so that a second run has nothing to do.

Nothing outside the directory is read, moved or removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

FILES = "files"
_STAMP = ".fetched"
_ASIDE = ".fetching"


@dataclass(frozen=True)
class Target:
    """The directory `into`; the files end up in its files/. `identity` names what is fetched."""

    into: Path
    identity: str

    @property
    def is_done(self) -> bool:
        return (self.into / FILES).is_dir() and _is(self.into / _STAMP, self.identity)

    @contextmanager
    def locked(self) -> Iterator[Target]:
        """The directory, made where it is missing, for this process alone."""
        self.into.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.into, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another fetch", extra={"into": str(self.into)})
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self
        finally:
            os.close(descriptor)

    @property
    def aside(self) -> Path:
        """A folder for what is under way: parts of an earlier run of the same identity are still there."""
        room = self.into / _ASIDE
        owner = room / "identity"
        if room.is_symlink() or not _is(owner, self.identity):
            _remove(room)
        room.mkdir(exist_ok=True)
        owner.write_text(self.identity, "utf-8")
        return room

    def clear(self, path: Path) -> None:
        """Removes what an earlier run left at `path`."""
        _remove(path)

    def commit(self, folder: Path) -> None:
        """Moves `folder`, which lies in `aside`, to its place. From here on the files are whole."""
        (self.into / _STAMP).unlink(missing_ok=True)
        final = self.into / FILES
        _remove(final)
        os.replace(folder, final)
        (self.into / _STAMP).write_text(self.identity, "utf-8")
        _remove(self.into / _ASIDE)


def _is(file: Path, text: str) -> bool:
    return file.is_file() and not file.is_symlink() and file.read_bytes() == text.encode()


def _remove(path: Path) -> None:
    """Removes a file, a folder, or a link without what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
