"""Archives unpacked so that nothing leaves the folder: no absolute path, no `..`, no link to elsewhere, no device."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import DownloadFailed

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def unpack(file: Path, name: str, folder: Path) -> None:
    """Raises DownloadFailed for what is no archive, or holds what may not be unpacked."""
    folder.mkdir(parents=True)
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    _check(member.filename)
                archive.extractall(folder)
        else:
            with tarfile.open(file) as tar:
                tar.extractall(folder, _checked(tar, folder.resolve()), **_FILTER)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DownloadFailed(f"{name}: cannot be unpacked: {error}") from None


# Python's own checks besides, where it has them: Debian 12's 3.11.2 has not.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _checked(tar: tarfile.TarFile, folder: Path) -> Iterator[tarfile.TarInfo]:
    """The members, each looked at when all before it are unpacked: a link may lead out by way of another."""
    for member in tar:
        _check(member.name)
        _check_inside(folder, folder / member.name)
        if member.issym():
            _check_inside(folder, (folder / member.name).parent / member.linkname)
        elif member.islnk():
            _check_inside(folder, folder / member.linkname)
        elif not (member.isfile() or member.isdir()):
            raise ValueError(f"{member.name!r} is neither file nor folder nor link")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)  # nothing that runs as somebody else
        yield member


def _check_inside(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder):
        raise ValueError(f"{str(path)!r} leads out of the archive")


def _check(name: str) -> None:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
        raise ValueError(f"{name!r} leads out of the archive")
