"""Where fetched files go: put together aside, moved into place whole, and remembered, so that a second run has nothing to do."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

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
        stamp = self.into / _STAMP
        return (self.into / FILES).is_dir() and stamp.is_file() and stamp.read_text() == self.identity

    @property
    def aside(self) -> Path:
        """Room for what is under way: parts of an earlier run of the same identity are still there."""
        room = self.into / _ASIDE
        owner = room / "identity"
        if room.is_dir() and (not owner.is_file() or owner.read_text() != self.identity):
            shutil.rmtree(room)
        room.mkdir(parents=True, exist_ok=True)
        owner.write_text(self.identity)
        return room

    def commit(self, folder: Path) -> None:
        """Moves the folder to its place. From here on the files are whole."""
        stamp = self.into / _STAMP
        stamp.unlink(missing_ok=True)
        final = self.into / FILES
        shutil.rmtree(final, ignore_errors=True)
        os.replace(folder, final)
        stamp.write_text(self.identity)
        shutil.rmtree(self.into / _ASIDE, ignore_errors=True)
