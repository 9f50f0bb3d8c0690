"""Objects below a prefix of an S3-compatible store, by obstore: each resumed where it broke off, all checked by one digest."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from ..errors import DownloadFailed, SourceEmpty, SourceNotFound
from .progress import Progress

log = logging.getLogger(__name__)

ATTEMPTS = 4  # on top of obstore's own retries
CHUNK = 8 << 20


@dataclass(frozen=True)
class Item:
    """One object: its key, its path below the prefix, and what tells whether it changed."""

    key: str
    path: str
    size: int
    tag: str


def store(bucket: str, endpoint: str | None, region: str | None, credentials: dict[str, str]) -> S3Store:
    options: Any = {"aws_virtual_hosted_style_request": "false"} if endpoint else {}
    if endpoint:
        options["aws_endpoint"] = endpoint.rstrip("/")
    if region or endpoint:
        options["aws_region"] = region or "us-east-1"
    if not credentials:
        options["aws_skip_signature"] = "true"
    plain = bool(endpoint and endpoint.startswith("http://"))
    config: Any = {**options, **credentials}
    return S3Store(bucket, config=config, client_options={"allow_http": plain})


def listing(bucket: S3Store, prefix: str) -> list[Item]:
    """The objects below the prefix, sorted by path. Raises SourceNotFound, SourceEmpty, DownloadFailed."""
    try:
        found = [meta for page in obstore.list(bucket, prefix=prefix) for meta in page]
    except (NotFoundError, PermissionDeniedError, UnauthenticatedError) as error:
        raise SourceNotFound(f"s3://{prefix}: {_words(error)}") from None
    except BaseError as error:
        if "NoSuchBucket" in str(error) or "404" in str(error):
            raise SourceNotFound(f"s3://{prefix}: {_words(error)}") from None
        raise DownloadFailed(f"s3://{prefix}: {_words(error)}") from None
    items = [_item(meta, prefix) for meta in found if not meta["path"].endswith("/")]
    if not items:
        raise SourceEmpty(f"s3://{prefix}: no objects have this prefix")
    return sorted(items, key=lambda item: item.path)


def _item(meta: Any, prefix: str) -> Item:
    key = str(meta["path"])
    path = key[len(prefix) :].lstrip("/") or PurePosixPath(key).name
    if ".." in PurePosixPath(path).parts:
        raise DownloadFailed(f"s3://{key}: leads out of the prefix")
    return Item(key, path, int(meta["size"]), str(meta.get("e_tag") or meta["last_modified"]))


def download(bucket: S3Store, items: Sequence[Item], folder: Path) -> None:
    """Every item under its path in `folder`; parts of an earlier run are kept. Raises DownloadFailed, SourceNotFound."""
    progress = Progress(f"{len(items)} objects", sum(item.size for item in items))
    for item in items:
        file = folder / item.path
        file.parent.mkdir(parents=True, exist_ok=True)
        _one(bucket, item, file, progress)
    progress.say("fetched")


def _one(bucket: S3Store, item: Item, file: Path, progress: Progress) -> None:
    for attempt in range(ATTEMPTS):
        have = file.stat().st_size if file.exists() else 0
        try:
            _rest(bucket, item, file, min(have, item.size), progress)
            return
        except (NotFoundError, PermissionDeniedError, UnauthenticatedError) as error:
            raise SourceNotFound(f"s3://{item.key}: {_words(error)}") from None
        except (BaseError, OSError) as error:
            if attempt == ATTEMPTS - 1:
                raise DownloadFailed(f"s3://{item.key}: {_words(error)}") from None
            log.warning("broken off", extra={"key": item.key, "problem": _words(error)})
            time.sleep(0.5 * 2**attempt * random.uniform(0.5, 1.5))


def _rest(bucket: S3Store, item: Item, file: Path, at: int, progress: Progress) -> None:
    """In ranges of a few MiB, so that a break costs one of them."""
    progress.add(at)
    with file.open("r+b" if at else "wb") as stream:
        stream.seek(at)
        while at < item.size:
            chunk = bytes(obstore.get_range(bucket, item.key, start=at, length=min(CHUNK, item.size - at)))
            stream.write(chunk)
            at += len(chunk)
            progress.add(len(chunk))
        stream.truncate()


def _words(error: Exception) -> str:
    """obstore's errors go on with a Debug rendering; the first line says it."""
    return str(error).strip().splitlines()[0][:500] if str(error).strip() else type(error).__name__
