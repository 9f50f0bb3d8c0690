"""A file over http(s): resumed where it broke off, retried with back-off, checked against its sha256. Redirects are followed;
the Authorization header is not sent on to where they lead."""

from __future__ import annotations

import hashlib
import http.client
import logging
import random
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ChecksumMismatch, DownloadFailed, FetchError, SourceNotFound
from .progress import Progress

log = logging.getLogger(__name__)

ATTEMPTS = 6  # in a row without a byte; an attempt that brought something counts as the first
TIMEOUT_SECONDS = 30.0
CHUNK = 1 << 20
_GONE = {401, 403, 404, 410}


def download(url: str, file: Path, sha256: str, authorization: str | None = None) -> None:
    """`file` holds the bytes at `url`, whose sha256 is as said. Raises SourceNotFound, DownloadFailed, ChecksumMismatch."""
    failures = 0
    while True:
        had = file.stat().st_size if file.exists() else 0
        try:
            _rest(url, file, authorization)
            break
        except _Broken as broken:
            got = file.stat().st_size if file.exists() else 0
            failures = 1 if got > had else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadFailed(f"{shown(url)}: {broken}") from None
            pause = min(0.5 * 2**failures, 10.0) * random.uniform(0.5, 1.5)
            log.warning(
                "broken off",
                extra={"url": shown(url), "problem": str(broken), "bytes": got, "again_in": round(pause, 1)},
            )
            time.sleep(pause)
    check(file, sha256, shown(url))


def check(file: Path, sha256: str, name: str) -> None:
    """Raises ChecksumMismatch, and removes the file, where it is not what was meant."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        file.unlink()
        raise ChecksumMismatch(f"{name}: expected sha256 {sha256}, got {digest.hexdigest()}")


def shown(url: str) -> str:
    """The address without its query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


class _Broken(Exception):
    """It may go better the next time."""


def _rest(url: str, file: Path, authorization: str | None) -> None:
    """Appends what is missing; begins again where the server knows no ranges or the file there has changed."""
    have = file.stat().st_size if file.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            _append(answer, file, have if answer.status == 206 else 0, shown(url))
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, file, url)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _Broken(f"{type(error).__name__}: {error}") from None


def _append(answer: http.client.HTTPResponse, file: Path, at: int, name: str) -> None:
    length = answer.headers.get("Content-Length")
    total = at + int(length) if length else None
    progress = Progress(name, total, at)
    with file.open("r+b" if at else "wb") as stream:
        stream.seek(at)
        while chunk := answer.read(CHUNK):
            stream.write(chunk)
            progress.add(len(chunk))
        stream.truncate()
    if total is not None and file.stat().st_size < total:
        raise _Broken(f"ended after {file.stat().st_size} of {total} bytes")
    progress.say("fetched")


def _refused(error: urllib.error.HTTPError, file: Path, url: str) -> None:
    if error.code == 416 and file.exists():  # nothing is missing (or the file there is another: the checksum will tell)
        return
    if error.code in _GONE:
        raise SourceNotFound(f"{shown(url)}: {error.code} {error.reason}")
    if error.code in (408, 425, 429) or error.code >= 500:
        raise _Broken(f"{error.code} {error.reason}")
    failure: FetchError = DownloadFailed(f"{shown(url)}: {error.code} {error.reason}")
    raise failure
