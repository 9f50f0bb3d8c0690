"""SHA-256 of files, read in pieces: a file's own, and that of a listing of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ChecksumMismatch
from .progress import Progress

CHUNK = 1 << 20


def sha256(file: Path, name: str) -> str:
    """The digest of a file, as 64 lower-case digits."""
    digest, progress = hashlib.sha256(), Progress(name, file.stat().st_size, event="verifying")
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            progress.add(len(chunk))
    return digest.hexdigest()


def check(file: Path, expected: str, name: str) -> None:
    """Raises ChecksumMismatch, and removes the file, where it is not what was meant."""
    got = sha256(file, name)
    if got != expected:
        file.unlink()
        raise ChecksumMismatch(f"{name}: expected sha256 {expected}, got {got}")


def check_folder(folder: Path, expected: str, name: str) -> None:
    """Raises ChecksumMismatch where the sorted `sha256sum` of all files below `folder` is another."""
    files = sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())
    listing = hashlib.sha256()
    for path, file in files:
        listing.update(f"{sha256(file, path)}  {path}\n".encode())
    if listing.hexdigest() != expected:
        raise ChecksumMismatch(f"{name}: expected a listing of sha256 {expected}, got {listing.hexdigest()}")
