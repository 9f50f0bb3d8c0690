"""Installations kept for `model-runtime run` and `build`, below the user's cache folder, each under the fingerprint of all that
decides it. Several processes may use it at once; what one uses is never removed by another.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import settings
from .installer import SOURCES, TEMPORARY, measured

log = logging.getLogger(__name__)

MOST_ENTRIES = 20
MOST_BYTES = 20 << 30
MOST_SECONDS = 30 * 86400  # since it was last used
_SIZE = "size"
_NEW = ".new-"
_LOCK = ".lock"


@contextmanager
def user_cache(enabled: bool = True) -> Iterator[Cache | None]:
    """The cache of this user, or None where it is not wanted or no folder for it can be made."""
    folder = _user_folder() if enabled else None
    cache = Cache(folder) if folder else None
    try:
        yield cache
    finally:
        if cache:
            cache.close()


def _user_folder() -> Path | None:
    home = settings.cache_home()
    if home is None:
        return None
    folder = home / "model-runtime" / "requirements"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        log.warning("no cache", extra={"folder": str(folder), "problem": error.strerror})
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


class Cache:
    """A folder of installations. Close it to let go of those that were provided."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[int] = []

    def provide(self, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of this key, filled by `make` where it is not there yet. Nobody removes it before `close`."""
        descriptor = self._lock(key)
        self._held.append(descriptor)
        entry = self._folder / key
        if (entry / _SIZE).is_file():
            log.info("requirements are in the cache", extra={"folder": str(entry)})
        else:
            self._make(entry, make)
        os.utime(entry / _SIZE)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        self._prune()
        return entry

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _make(self, entry: Path, make: Callable[[Path], None]) -> None:
        shutil.rmtree(entry, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=_NEW, ignore_cleanup_errors=True) as name:
            made = Path(name) / "entry"
            made.mkdir()
            make(made)
            for part in (TEMPORARY, SOURCES):  # what only the installation needed
                shutil.rmtree(made / part, ignore_errors=True)
            (made / _SIZE).write_text(str(measured(made)))
            made.rename(entry)

    def _lock(self, key: str, *, wait: bool = True) -> int:
        """Locks the key for this process alone. A lock file that was removed meanwhile locks nothing."""
        path = self._folder / f"{key}{_LOCK}"
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _prune(self) -> None:
        """Removes what is old or too much, the least recently used first."""
        now, size = time.time(), 0
        for number, (used, entry) in enumerate(sorted(self._entries(), reverse=True), 1):
            with suppress(OSError, ValueError):
                size += int((entry / _SIZE).read_text())
            if number > MOST_ENTRIES or size > MOST_BYTES or now - used > MOST_SECONDS:
                self._remove(entry)
        for left in self._folder.glob(f"{_NEW}*"):  # of a process that was killed
            with suppress(OSError):
                if now - left.stat().st_mtime > MOST_SECONDS:
                    shutil.rmtree(left, ignore_errors=True)

    def _entries(self) -> list[tuple[float, Path]]:
        found = []
        for marker in self._folder.glob(f"*/{_SIZE}"):
            with suppress(OSError):
                found.append((marker.stat().st_mtime, marker.parent))
        return found

    def _remove(self, entry: Path) -> None:
        """Removes an entry that nobody uses."""
        try:
            descriptor = self._lock(entry.name, wait=False)
        except OSError:
            return
        try:
            shutil.rmtree(entry, ignore_errors=True)
            (self._folder / f"{entry.name}{_LOCK}").unlink(missing_ok=True)
        finally:
            os.close(descriptor)
