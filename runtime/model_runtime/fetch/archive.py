"""Archives unpacked so that nothing leaves the folder: no absolute path, no `..`, no link to elsewhere, no device."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

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
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DownloadFailed(f"{name}: cannot be unpacked: {error}") from None


def _check(name: str) -> None:
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
        raise ValueError(f"{name!r} leads out of the archive")
