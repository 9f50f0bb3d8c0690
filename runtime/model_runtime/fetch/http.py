"""A file over http(s): resumed where it broke off, retried where that can help, checked against its sha256.

The standard library's client is used and not obstore's, which refuses answers without a length. Proxies and certificates come
from the environment. Redirects are followed to http(s) only, and the Authorization header is not sent on to where they lead.
"""

from __future__ import annotations

import base64
import http.client
import logging
import random
import re
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from ..errors import ChecksumMismatch, DownloadFailed, SourceNotFound
from ..masking import masked
from . import digest, settings
from .progress import Progress

log = logging.getLogger(__name__)

ATTEMPTS = 6  # in a row without a byte; an attempt that brought something counts as the first
TIMEOUT_SECONDS = 30.0  # without a byte
CHUNK = 1 << 20
_LONGEST_PAUSE = 30.0
_GONE = {401, 403, 404, 410}
_BUSY = {408, 425, 429}
_NEVER = {501, 505, 511}
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Address:
    """An http(s) address in ASCII, and the Authorization header that its user information means."""

    url: str
    authorization: str | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Accepts what a browser's address line does (umlauts, spaces). Raises DownloadFailed."""
        problem = f"{masked(text)!r}: expected an address that begins with http:// or https://"
        try:
            parts = urlsplit(text.strip())
            host, port = (parts.hostname or "").encode("idna").decode(), parts.port
        except (ValueError, UnicodeError) as error:
            raise DownloadFailed(f"{problem}: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise DownloadFailed(problem)
        host = f"[{host}]" if ":" in host else host
        place = f"{host}:{port}" if port is not None else host
        url = urlunsplit((parts.scheme, place, _ascii(parts.path), _ascii(parts.query, "/?"), ""))
        return cls(url, _basic(parts.username, parts.password))

    @property
    def shown(self) -> str:
        """The address without its query, which may hold a signature."""
        return self.url.partition("?")[0]

    @property
    def file_name(self) -> str:
        return PurePosixPath(unquote(urlsplit(self.url).path)).name or "file"


def _ascii(text: str, more: str = "/") -> str:
    return quote(_PERCENT.sub("%25", text), safe=f"%:@!$&'()*+,;=-._~{more}")


def _basic(user: str | None, password: str | None) -> str | None:
    if user is None:
        return None
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def download(address: Address, file: Path, sha256: str, limits: settings.Limits) -> None:
    """`file` holds the bytes at `address`, whose sha256 is as said. Raises SourceNotFound, DownloadFailed, ChecksumMismatch."""
    was_there = file.exists()
    _Download(address, file, limits.max_bytes).run()
    try:
        digest.check(file, sha256, address.shown)
    except ChecksumMismatch:
        if not was_there:
            raise
        log.warning("the rest does not fit what an earlier run left", extra={"url": address.shown})
        _Download(address, file, limits.max_bytes).run()
        digest.check(file, sha256, address.shown)


class _Broken(Exception):
    """It may go better the next time, after `pause` seconds where the server says so."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


class _Download:
    """One file on its way."""

    def __init__(self, address: Address, file: Path, limit: int) -> None:
        self._address, self._file, self._limit = address, file, limit
        self._authorization = settings.authorization() or address.authorization
        self._opener = _opener()

    def run(self) -> None:
        log.info("fetching", extra={"url": self._address.shown})
        failures = 0
        while True:
            had = self._have()
            try:
                return self._rest(had)
            except _Broken as broken:
                failures = 1 if self._have() > had else failures + 1
                if failures >= ATTEMPTS:
                    raise DownloadFailed(f"{self._address.shown}: {broken}") from None
                pause = max(broken.pause, min(0.5 * 2**failures, 10.0) * random.uniform(0.5, 1.5))
                details = {"url": self._address.shown, "problem": str(broken), "bytes": self._have()}
                log.warning("broken off", extra={**details, "again_in": round(pause, 1)})
                time.sleep(pause)

    def _have(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def _rest(self, have: int) -> None:
        """Appends what is missing; begins again where the server knows no ranges."""
        request = urllib.request.Request(self._address.url, headers={"Range": f"bytes={have}-"} if have else {})
        request.add_header("User-Agent", "model-runtime")
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                self._append(answer, self._start(answer, have))
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, have)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failure(error) from None

    def _start(self, answer: http.client.HTTPResponse, have: int) -> int:
        """Where in the file the answer begins."""
        if answer.status != 206:
            return 0
        given = answer.headers.get("Content-Range") or f"bytes {have}-"
        if not given.startswith(f"bytes {have}-"):
            self._file.unlink(missing_ok=True)
            raise _Broken(f"expected bytes from {have}, got {given}")
        return have

    def _append(self, answer: http.client.HTTPResponse, at: int) -> None:
        length = answer.headers.get("Content-Length") or ""
        total = at + int(length) if length.isdecimal() else None
        self._allow(total or 0)
        progress = Progress(self._address.shown, total, at)
        with self._open(at) as stream:
            while chunk := answer.read1(CHUNK):
                at += len(chunk)
                self._allow(at)
                _write(stream, chunk, self._file)
                progress.add(len(chunk))
            stream.truncate()
        if total is not None and at < total:
            raise _Broken(f"ended after {at} of {total} bytes")
        progress.write("fetched")

    def _open(self, at: int) -> IO[bytes]:
        try:
            stream = self._file.open("r+b" if at else "wb")
            stream.seek(at)
        except OSError as error:
            raise DownloadFailed(f"{self._file}: cannot be written: {error.strerror}") from None
        return stream

    def _allow(self, count: int) -> None:
        if count > self._limit:
            raise DownloadFailed(f"{self._address.shown}: more than the {self._limit} bytes allowed (FETCH_MAX_BYTES)")

    def _refused(self, error: urllib.error.HTTPError, have: int) -> None:
        if error.code == 416 and have:  # nothing is missing (or the file there is another: the checksum will tell)
            return
        words = f"{error.code} {masked(str(error.reason)).strip()}"
        if error.code in _GONE:
            raise SourceNotFound(f"{self._address.shown}: {words}")
        if error.code in _BUSY or (error.code >= 500 and error.code not in _NEVER):
            wait = error.headers.get("Retry-After") or ""
            raise _Broken(words, min(float(wait), _LONGEST_PAUSE) if wait.isdecimal() else 0.0)
        raise DownloadFailed(f"{self._address.shown}: {words}")

    def _failure(self, error: Exception) -> Exception:
        """_Broken for what may pass, DownloadFailed for what stays as it is."""
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        kind = f"{type(cause).__name__}: " if isinstance(cause, Exception) else ""
        words = f"{kind}{masked(str(cause))}"
        stays = isinstance(cause, ssl.SSLCertVerificationError | http.client.InvalidURL | ValueError | str)
        if stays or "Tunnel connection failed: 4" in words:
            return DownloadFailed(f"{self._address.shown}: {words}")
        return _Broken(words)


def _opener() -> urllib.request.OpenerDirector:
    """A client of http and https, and of nothing else: the standard one reads files of this machine, too."""
    trusted = ssl.create_default_context()
    for path in settings.certificates():
        trusted.load_verify_locations(None if path.is_dir() else path, path if path.is_dir() else None)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=trusted),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _write(stream: IO[bytes], chunk: bytes, file: Path) -> None:
    try:
        stream.write(chunk)
    except OSError as error:
        raise DownloadFailed(f"{file}: cannot be written: {error.strerror}") from None
