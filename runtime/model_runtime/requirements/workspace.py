"""A folder to install from that looks like the model's files: real folders where something is written, links to all else.

Builds write beside their sources, which may be read-only and are never ours to change. And a path such as `../wheels` leads from
here to where it leads from the files, as every folder on the way to the root is here too.
"""

from __future__ import annotations

import os
from pathlib import Path

from .listing import Listing, without_editable

_PROJECT = ("pyproject.toml", "setup.py")


class Workspace:
    """The mirror of this machine's folders below `root`, which is new."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir()
        self._real: set[Path] = {Path("/")}
        self._link(Path("/"), root)

    def prepare(self, listing: Listing, base: Path) -> Path:
        """Returns the folder that stands for `base`, where what `listing` leads to can be read and built."""
        for path in listing.local:
            if path.is_dir() and any((path / name).is_file() for name in _PROJECT):
                self._mirror_whole(Path(os.path.abspath(path)))
        for file, text in listing.texts.items():
            place = self.write(file, without_editable(text))
            assert place.is_file()
        return self._mirror(Path(os.path.abspath(base)))

    def write(self, file: Path, text: str) -> Path:
        """Puts a file of this text at the place of `file`, which may exist there or not."""
        absolute = Path(os.path.abspath(file))
        place = self._mirror(absolute.parent) / absolute.name
        place.unlink(missing_ok=True)
        place.write_text(text, "utf-8")
        return place

    def at(self, path: Path) -> Path:
        return self._root / os.path.abspath(path).lstrip("/")

    def _mirror(self, folder: Path) -> Path:
        """A real folder in the place of `folder`, and in those of all above it, with links to what is in them."""
        if folder not in self._real:
            self._mirror(folder.parent)
            self._real.add(folder)
            place = self.at(folder)
            if place.is_symlink():
                place.unlink()
            place.mkdir(exist_ok=True)
            self._link(folder, place)
        return self.at(folder)

    def _link(self, folder: Path, place: Path) -> None:
        try:
            names = os.listdir(folder)
        except OSError:  # may be entered and not listed, or is not there
            return
        for name in names:
            if not os.path.lexists(place / name):
                os.symlink(folder / name, place / name)

    def _mirror_whole(self, folder: Path) -> None:
        self._mirror(folder)
        for below, names, _ in os.walk(folder):
            names[:] = [name for name in names if name != ".git" and Path(below, name) != self._root]
            for name in names:
                if not os.path.islink(os.path.join(below, name)):
                    self._mirror(Path(below, name))
