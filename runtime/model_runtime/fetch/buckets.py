"""Objects of S3-compatible, Google Cloud and Azure storage, by obstore: its stores, its addresses, its chain of credentials.

The chain is each cloud's own: the variables of a Secret, then a web identity (IRSA, Workload Identity), a container's role (EKS
Pod Identity), an instance's role. Access is anonymous only where asked. Resuming, limits and what a path may be are decided here.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    BaseError,
    GenericError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from ..errors import DownloadFailed, SourceEmpty, SourceNotFound
from ..masking import masked
from . import paths, settings
from .progress import Progress

log = logging.getLogger(__name__)

ATTEMPTS = 4  # in a row without a byte, on top of obstore's own retries
THREADS = 8
CHUNK = 8 << 20
_RETRY: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
_LASTING = re.compile(
    r"status( code)?:? 4(?!08|29)\d\d|builder error|invalid|certificate|unable to parse|missing", re.I
)
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"|(InvalidCertificate\(\s*\w+)')
_NO_CREDENTIALS = re.compile(r"credential|metadata|169\.254\.|token", re.I)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Bucket:
    """An opened bucket or container, and how it is called in messages."""

    name: str  # s3://models
    store: Any

    def shown(self, key: str) -> str:
        return f"{self.name}/{key}"


@dataclass(frozen=True)
class Item:
    """One object: its key, its path below the prefix, and what shows that it changed."""

    key: str
    path: str
    size: int
    tag: str | None
    changed: str

    @property
    def identity(self) -> str:
        return f"{self.key} {self.size} {self.tag or self.changed}\n"


# Stores ---------------------------------------------------------------------------------------------------------------


def s3(bucket: str, *, endpoint: str | None, region: str | None, anonymous: bool) -> Bucket:
    config: Any = {"endpoint": _base(endpoint), "virtual_hosted_style_request": False} if endpoint else {}
    if region:
        config["region"] = region
    if service := settings.token_service():
        config["aws_endpoint_url_sts"] = service
    return _opened(f"s3://{bucket}", S3Store, bucket, config, endpoint, anonymous)


def gcs(bucket: str, *, endpoint: str | None, anonymous: bool) -> Bucket:
    config: Any = {"base_url": _base(endpoint)} if endpoint else {}
    return _opened(f"gs://{bucket}", GCSStore, bucket, config, endpoint, anonymous)


def azure(container: str, *, account: str | None, endpoint: str | None, anonymous: bool) -> Bucket:
    config: Any = {"endpoint": _base(endpoint)} if endpoint else {}
    if account:
        config["account_name"] = account
    return _opened(f"az://{container}", AzureStore, container, config, endpoint, anonymous)


def _base(endpoint: str) -> str:
    if not re.match(r"https?://[^/]", endpoint):
        raise DownloadFailed(f"{masked(endpoint)!r}: expected an endpoint that begins with http:// or https://")
    return endpoint.rstrip("/")


def _opened(
    name: str, kind: Callable[..., Any], bucket: str, config: dict[str, Any], endpoint: str | None, anonymous: bool
) -> Bucket:
    settings.trim_credentials()
    if anonymous:
        config["skip_signature"] = True
    options: dict[str, Any] = {"connect_timeout": "10s", "timeout": "120s"}
    if endpoint and endpoint.startswith("http://"):
        options["allow_http"] = True
    if certificates := _certificates():
        options["root_certificate"] = certificates
    with _explained(name):
        return Bucket(name, kind(bucket, config=config, client_options=options, retry_config=_RETRY))


def _certificates() -> bytes:
    files = [file for path in settings.certificates() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    contents = (file.read_bytes() for file in files if file.is_file())
    return b"\n".join(content for content in contents if b"-----BEGIN CERTIFICATE-----" in content)


# Listing --------------------------------------------------------------------------------------------------------------


def listing(bucket: Bucket, prefix: str, limits: settings.Limits) -> list[Item]:
    """The objects below the folder `prefix`, or the one that it names, sorted by path.

    Raises SourceNotFound, SourceEmpty, DownloadFailed.
    """
    folder, name = prefix.strip("/"), bucket.shown(prefix)
    single = _single(bucket, folder) if folder and not prefix.endswith("/") else None
    if single and single.size:
        return _allowed([single], name, limits)
    found = _retried(name, lambda: _listed(bucket, folder, limits))
    items = _without_markers(_allowed(found, name, limits))
    if not items and single is None:
        raise SourceEmpty(f"{name}: no object has this key or is below this folder")
    return sorted(items, key=lambda item: item.path) or ([single] if single else [])


def _single(bucket: Bucket, key: str) -> Item | None:
    """The object of exactly this key. Who may not ask for it may still be allowed to list."""
    try:
        meta: Any = _retried(bucket.shown(key), lambda: obstore.head(bucket.store, key))
    except SourceNotFound:
        return None
    return _item(meta, PurePosixPath(key).name)


def _listed(bucket: Bucket, folder: str, limits: settings.Limits) -> list[Item]:
    progress = Progress(f"list of {bucket.shown(folder)}", None, event="listing")
    items: list[Item] = []
    for page in obstore.list(bucket.store, prefix=folder or None):
        for meta in page:
            items.append(_item(meta, str(meta["path"])[len(folder) :].lstrip("/")))
        progress.add(0)
        if len(items) > limits.max_files:
            break
    return items


def _item(meta: Any, path: str) -> Item:
    return Item(str(meta["path"]), path, int(meta["size"]), meta.get("e_tag") or None, str(meta["last_modified"]))


def _allowed(items: list[Item], name: str, limits: settings.Limits) -> list[Item]:
    if len(items) > limits.max_files:
        raise DownloadFailed(f"{name}: more than the {limits.max_files} objects allowed (FETCH_MAX_FILES)")
    if (size := sum(item.size for item in items)) > limits.max_bytes:
        raise DownloadFailed(f"{name}: {size} bytes, more than the {limits.max_bytes} allowed (FETCH_MAX_BYTES)")
    for item in items:
        try:
            paths.relative(item.path)
        except ValueError as error:
            raise DownloadFailed(f"{name}: {error}") from None
    return items


def _without_markers(items: list[Item]) -> list[Item]:
    """Empty objects that stand for a folder, which consoles make, are none of the files."""
    folders = {str(parent) for item in items for parent in PurePosixPath(item.path).parents}
    return [item for item in items if item.size or (item.path and item.path not in folders)]


# Download -------------------------------------------------------------------------------------------------------------


def download(bucket: Bucket, items: Sequence[Item], folder: Path) -> None:
    """Every item under its path in `folder`; parts of an earlier run are kept. Raises DownloadFailed, SourceNotFound."""
    progress = Progress(f"{len(items)} objects", sum(item.size for item in items))
    folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(THREADS, "fetch")
    try:
        for _ in pool.map(lambda item: _one(bucket, item, folder / item.path, progress), items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    progress.write("fetched")


def _one(bucket: Bucket, item: Item, file: Path, progress: Progress) -> None:
    name = bucket.shown(item.key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not item.size:
            return _empty(bucket, item, file)
        at = file.stat().st_size if file.exists() else 0
        at = at if at <= item.size else 0
        progress.add(at)
        with file.open("r+b" if at else "wb") as stream:
            stream.seek(at)
            while at < item.size:
                chunk = _retried(name, lambda: _range(bucket, item, at))  # noqa: B023  # called at once
                stream.write(chunk)
                at += len(chunk)
                progress.add(len(chunk))
    except OSError as error:
        raise DownloadFailed(f"{name}: cannot be written: {error.strerror}: {error.filename}") from None


def _range(bucket: Bucket, item: Item, at: int) -> bytes:
    """A few MiB, so that a break costs no more. The tag guards against an object that is replaced meanwhile."""
    options: Any = {"range": (at, min(at + CHUNK, item.size))}
    if item.tag:
        options["if_match"] = item.tag
    chunk = bytes(obstore.get(bucket.store, item.key, options=options).bytes())
    if not 0 < len(chunk) <= CHUNK:
        raise GenericError(f"expected up to {CHUNK} bytes from {at}, got {len(chunk)}")
    return chunk


def _empty(bucket: Bucket, item: Item, file: Path) -> None:
    """An empty file; or a folder, where the object's key ends in a slash, which obstore does not show."""
    try:
        _retried(bucket.shown(item.key), lambda: obstore.head(bucket.store, item.key))
    except SourceNotFound:
        file.mkdir(exist_ok=True)
    else:
        file.write_bytes(b"")


# Errors ---------------------------------------------------------------------------------------------------------------


def _retried(name: str, call: Callable[[], _T]) -> _T:
    """The call's result, tried again where that can help."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _explained(name):
                return call()
        except _Passing as error:
            if attempt == ATTEMPTS:
                raise DownloadFailed(str(error)) from None
            pause = 0.5 * 2**attempt * random.uniform(0.5, 1.5)
            log.warning("broken off", extra={"object": name, "problem": str(error), "again_in": round(pause, 1)})
            time.sleep(pause)
    raise AssertionError("unreachable")


class _Passing(Exception):
    """It may go better the next time."""


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """obstore's errors as ours; _Passing for those that may pass."""
    try:
        yield
    except (FileNotFoundError, PermissionDeniedError, UnauthenticatedError) as error:
        raise SourceNotFound(f"{name}: {_words(error)}") from None
    except PreconditionError:
        raise DownloadFailed(f"{name}: was replaced while it was fetched") from None
    except (BaseError, NotImplementedError, OSError, TypeError, ValueError) as error:
        words = _words(error)
        if "NoSuchBucket" in words or "404" in words:
            raise SourceNotFound(f"{name}: {words}") from None
        if _NO_CREDENTIALS.search(words):
            raise DownloadFailed(f"{name}: {words}. Give credentials or a role, or ask for anonymous access") from None
        if isinstance(error, GenericError) and not _LASTING.search(words):
            raise _Passing(f"{name}: {words}") from None
        raise DownloadFailed(f"{name}: {words}") from None


def _words(error: Exception) -> str:
    """The first line of obstore's error, and the cause that stands deep in the Debug rendering after it."""
    text = masked(str(error)).strip() or type(error).__name__
    first, _, rest = text.partition("\n")
    causes = ["".join(found[1] or found[2].split()) for found in _CAUSE.finditer(rest)]
    return first[:500] + (f": {causes[-1][:200]}" if causes and causes[-1] not in first else "")
