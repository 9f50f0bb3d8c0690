"""Writes the entries of an archive below a folder: nothing outside it, and no more than the limits allow.

Links are made last. As long as files are written there is no link that could lead a path elsewhere.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

from ..errors import DownloadFailed
from . import archive, paths
from .archive import Entry
from .progress import Progress
from .settings import GIB, Limits

_CHUNK = 1 << 20
_MODES = 0o755  # no set-uid, no writing by others


def unpack(file: Path, name: str, folder: Path, limits: Limits) -> None:
    """Unpacks `file`, which is called `name`, into the new `folder`. Raises DownloadFailed, and leaves nothing then."""
    folder.mkdir(parents=True)
    tree = _Tree(folder, name, limits, file.stat().st_size)
    try:
        for entry in archive.entries(file, limits.max_bytes):
            tree.add(entry)
        tree.link()
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        raise DownloadFailed(f"{name}: cannot be unpacked: {reason}") from None  # the libraries raise anything


class _Tree:
    """The folder that is being filled, and what it may still take."""

    def __init__(self, root: Path, name: str, limits: Limits, packed: int) -> None:
        self._root, self._limits = root, limits
        self._most_bytes = min(limits.max_bytes, max(GIB, packed * limits.max_ratio))
        self._bytes = self._count = 0
        self._files: set[PurePosixPath] = set()
        self._links: dict[PurePosixPath, str] = {}
        self._progress = Progress(name, None, event="unpacking")

    def add(self, entry: Entry) -> None:
        self._count += 1
        if self._count > self._limits.max_files:
            raise ValueError(f"more than the {self._limits.max_files} entries allowed (FETCH_MAX_FILES)")
        path = paths.relative(entry.name)
        if not path.parts:  # the folder itself
            return
        if entry.kind == "folder":
            (self._root / path).mkdir(parents=True, exist_ok=True)
            (self._root / path).chmod(entry.mode & _MODES | 0o700)
        elif entry.kind == "link":
            self._claim(path, entry)
            self._links[path] = entry.aim
        elif entry.kind == "same":
            self._add_same(path, entry)
        else:
            self._write(path, entry)

    def _write(self, path: PurePosixPath, entry: Entry) -> None:
        self._allow(entry.size)
        self._claim(path, entry)
        file = self._root / path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        assert entry.content is not None
        with entry.content() as content, os.fdopen(os.open(file, flags, 0o600), "wb") as stream:
            while chunk := content.read(_CHUNK):
                self._bytes += len(chunk)
                self._allow(0)
                stream.write(chunk)
                self._progress.add(len(chunk))
            os.fchmod(stream.fileno(), entry.mode & _MODES | 0o600)
        if entry.modified is not None and 0 <= entry.modified < 2**33:
            os.utime(file, (entry.modified, entry.modified))
        self._files.add(path)

    def _allow(self, more: int) -> None:
        """What an archive announces is refused before it is written; what it does not announce, when it comes."""
        if self._bytes + more > self._most_bytes:
            raise ValueError(
                f"inflates to more than the {self._most_bytes} bytes allowed (FETCH_MAX_BYTES, FETCH_MAX_RATIO)"
            )

    def _claim(self, path: PurePosixPath, entry: Entry) -> None:
        """A later entry of the same name replaces the earlier, as tar does it. Any other collision is refused."""
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path in self._files:
            file.unlink()
            self._files.discard(path)
        self._links.pop(path, None)
        if os.path.lexists(file):
            raise ValueError(f"{entry.name!r} has the place of another entry")

    def _add_same(self, path: PurePosixPath, entry: Entry) -> None:
        aim = paths.relative(entry.aim)
        if aim == path:
            return
        if aim in self._links:  # a hard link to a symbolic one
            self._claim(path, entry)
            self._links[path] = os.path.relpath(aim.parent / self._links[aim], path.parent)
        elif aim in self._files:
            self._claim(path, entry)
            os.link(self._root / aim, self._root / path, follow_symlinks=False)
            self._files.add(path)
        else:
            raise ValueError(f"{entry.name!r} is the same as {entry.aim!r}, which is not a file before it")

    def link(self) -> None:
        """Makes the links. Their folders exist by now, so none is made by way of another link."""
        for path, aim in self._links.items():
            if aim.startswith("/") or "\0" in aim:
                raise ValueError(f"{str(path)!r} leads out of the archive, to {aim!r}")
            os.symlink(aim, self._root / path)
        paths.check_links(self._root)
        self._progress.write("unpacked")
