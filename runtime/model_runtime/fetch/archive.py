"""Reads archives (tar with gzip, bzip2 or xz, and zip) as a sequence of entries, to the last byte. Writes nothing.

The libraries accept more than they should: tarfile ends in silence at a broken header and leaves the checksum of a gzip stream
unread. Here either is an error.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")

_CHUNK = 1 << 20
_LONGEST_READ = 1 << 26  # of a header; larger ones exist only to fill the memory
_LONGEST_LINK = 4096
_XZ_MEMORY = 1 << 28  # `xz -9` needs 65 MiB to inflate
_END_OF_ZIP = (1 << 16) + 256  # the longest comment, and what stands before it
_LARGEST_DIRECTORY = 1 << 26  # more than half a million entries
_ENCRYPTED = 0x1
_METHODS = {0: "stored", 8: "deflate", 12: "bzip2", 14: "lzma"}
_OTHER_METHODS = {
    9: "deflate64",
    93: "zstandard",
    95: "xz",
    96: "jpeg",
    97: "wavpack",
    98: "ppmd",
    99: "AES encryption",
}


@dataclass(frozen=True)
class Entry:
    """One entry: a folder, a file with its `content`, or a link to `aim`."""

    name: str
    kind: str  # "folder", "file", "link" (symbolic) or "same" (a hard link)
    mode: int
    size: int = 0
    aim: str = ""
    modified: float | None = None
    content: Callable[[], IO[bytes]] | None = None


def is_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def entries(file: Path, limit: int) -> Iterator[Entry]:
    """The entries in order. Each is to be read before the next is asked for. `limit` bounds the bytes of an inflated tar.

    Raises whatever the libraries raise for a broken file, and ValueError for what is refused.
    """
    return _zip(file) if zipfile.is_zipfile(file) and not _is_tar(file) else _tar(file, limit)


def _is_tar(file: Path) -> bool:
    """A tar may hold a zip at its end, which zipfile would find."""
    with file.open("rb") as stream:
        head = stream.read(512)
    return head[257:262] == b"ustar" or head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))


# tar ----------------------------------------------------------------------------------------------------------------


class _Member(tarfile.TarInfo):
    """A header that is read strictly: only two kinds of header are let pass, a good one and the end's zeros."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf):
                raise
            raise tarfile.ReadError(f"truncated or overwritten: {error}") from None


class _Bounded(io.RawIOBase):
    """A stream that refuses to go beyond `limit` bytes, or to give one reader a large piece at once."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset > self._limit:
            raise ValueError(f"inflates to more than the {self._limit} bytes allowed (FETCH_MAX_BYTES)")
        return self._stream.seek(offset)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise ValueError(f"a header of {size} bytes")
        data = self._stream.read(size)
        if self._stream.tell() > self._limit:
            raise ValueError(f"inflates to more than the {self._limit} bytes allowed (FETCH_MAX_BYTES)")
        return data


def _tar(file: Path, limit: int) -> Iterator[Entry]:
    with closing(_inflated(file)) as inflated:
        stream: Any = _Bounded(inflated, limit)
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Member) as tar:
            while (member := tar.next()) is not None:
                yield _tar_entry(tar, member)
        while stream.read(_CHUNK):  # the checksum stands at the very end
            pass


def _inflated(file: Path) -> BinaryIO:
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(file))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(file))
    if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
        lzma.LZMADecompressor(memlimit=_XZ_MEMORY).decompress(head, 1)  # LZMAFile knows no limit of memory
        return cast(BinaryIO, lzma.open(file))
    return file.open("rb")


def _tar_entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.isdir():
        return Entry(member.name, "folder", member.mode)
    if member.issym():
        return Entry(member.name, "link", 0, aim=member.linkname)
    if member.islnk():
        return Entry(member.name, "same", 0, aim=member.linkname)
    if not member.isfile():
        raise ValueError(f"{member.name!r} is neither file nor folder nor link")
    return Entry(
        member.name, "file", member.mode, member.size, modified=member.mtime, content=lambda: _content(tar, member)
    )


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise ValueError(f"{member.name!r} has no content")
    return content


# zip ----------------------------------------------------------------------------------------------------------------


def _zip(file: Path) -> Iterator[Entry]:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            yield _zip_entry(archive, member)


def _check_directory(file: Path) -> None:
    """zipfile reads the whole directory of a zip into objects ten times its size, before anybody can count them."""
    with file.open("rb") as stream:
        stream.seek(-min(_END_OF_ZIP, file.stat().st_size), io.SEEK_END)
        end = stream.read()
    at = end.rfind(b"PK\5\6")
    size = int.from_bytes(end[at + 12 : at + 16], "little") if at >= 0 else 0
    if size == 0xFFFFFFFF and (at := end.rfind(b"PK\6\6")) >= 0:
        size = int.from_bytes(end[at + 40 : at + 48], "little")
    if size > _LARGEST_DIRECTORY:
        raise ValueError(f"its list of entries has {size} bytes, at most {_LARGEST_DIRECTORY} are read")


def _zip_entry(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Entry:
    mode = member.external_attr >> 16  # 0 where no Unix wrote it
    kind = stat.S_IFMT(mode)
    if member.is_dir() or kind == stat.S_IFDIR:
        return Entry(member.filename, "folder", mode & 0o777 or 0o755)
    if kind not in (0, stat.S_IFREG, stat.S_IFLNK):
        raise ValueError(f"{member.filename!r} is neither file nor folder nor link")
    _check_readable(member)
    if kind == stat.S_IFLNK:
        with archive.open(member) as content:
            return Entry(member.filename, "link", 0, aim=content.read(_LONGEST_LINK).decode("utf-8"))
    return Entry(member.filename, "file", mode & 0o777 or 0o644, member.file_size, content=lambda: archive.open(member))


def _check_readable(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{member.filename!r} is encrypted: pack it without a password")
    if member.compress_type not in _METHODS:
        method = _OTHER_METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise ValueError(f"{member.filename!r} is compressed with {method}: expected {', '.join(_METHODS.values())}")
