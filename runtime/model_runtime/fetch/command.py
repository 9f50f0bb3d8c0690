"""`model-runtime fetch http | s3 | contract`: the init steps of a pod. Errors become a termination message and an exit status."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from .. import contract
from .. import settings as runtime_settings
from ..contract import CONTRACT_FILE
from ..errors import (
    ChecksumMismatch,
    ContractError,
    ContractInvalid,
    ContractMismatch,
    ContractMissing,
    FetchError,
    SourceEmpty,
)
from ..server import logs, program
from . import archive, http, s3, settings
from .target import Target

log = logging.getLogger(__name__)

_SHA256 = click.option("--sha256", required=True, help="The sha256 of the file, 64 hex digits.")
_INTO = click.option(
    "--into", required=True, type=click.Path(path_type=Path), help="The files end up in files/ of this directory."
)


def _step(function: Callable[..., None]) -> Callable[..., int]:
    """A failure is logged in one line and left in the termination log, where the operator reads it."""

    @wraps(function)
    def step(*arguments: Any, **options: Any) -> int:
        wanted = runtime_settings.from_environment()
        logs.configure(wanted.log_level, wanted.log_format)
        try:
            function(*arguments, **options)
        except FetchError as error:
            sys.exit(program.report(error, wanted.termination_log))
        return program.OK

    return step


@click.group()
def fetch() -> None:
    """Bring a model's files here before it is served: resumable, verified, atomic."""


@fetch.command("http")
@click.argument("url")
@_SHA256
@click.option("--path", default="", help="The folder in the archive that holds the files, or a plain file's own path.")
@_INTO
@_step
def fetch_http(url: str, sha256: str, path: str, into: Path) -> None:
    """A file or archive at an address. HTTP_AUTHORIZATION, where set, is sent as the header."""
    target = Target(into, f"http {sha256} {path}")
    if target.is_done:
        log.info("fetched already", extra={"sha256": sha256})
        return
    name = PurePosixPath(unquote(urlsplit(url).path)).name or "file"
    part = target.aside / "part"
    http.download(url, part, sha256, settings.credential("HTTP_AUTHORIZATION"))
    _place(target, part, name, path)


@fetch.command("s3")
@click.argument("bucket")
@click.argument("prefix")
@click.option("--endpoint", help="The store's address (default: the cloud's own).")
@click.option("--region", help="The region.")
@click.option("--manifest-sha256", help="The sha256 of the listing `<sha256>  <path>` of all files, or of the archive.")
@_INTO
@_step
def fetch_s3(
    bucket: str, prefix: str, endpoint: str | None, region: str | None, manifest_sha256: str | None, into: Path
) -> None:
    """The objects below a prefix, or one archive. AWS_ACCESS_KEY_ID and the like are taken from the environment."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    credentials = {name.lower(): value for name in names if (value := settings.credential(name))}
    store = s3.store(bucket, endpoint, region, credentials)
    items = s3.listing(store, prefix)
    known = "".join(f"{item.key} {item.size} {item.tag}\n" for item in items)
    target = Target(into, "s3 " + hashlib.sha256(f"{manifest_sha256} {known}".encode()).hexdigest())
    if target.is_done:
        log.info("fetched already", extra={"objects": len(items)})
        return
    folder = target.aside / "objects"
    s3.download(store, items, folder)
    if len(items) == 1 and archive.is_archive(items[0].key):
        part = folder / items[0].path
        if manifest_sha256:
            http.check(part, manifest_sha256, items[0].key)
        _place(target, part, items[0].path, "")
        return
    if manifest_sha256:
        _check_manifest(folder, manifest_sha256, prefix)
    target.commit(folder)


@fetch.command("contract")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--expect", type=click.Path(path_type=Path), help="Another contract.protobin, which must promise the same."
)
@click.option("--into", type=click.Path(path_type=Path), help="Copy it into this directory.")
@_step
def fetch_contract(file: Path, expect: Path | None, into: Path | None) -> None:
    """Check the contract.protobin that a source holds, and compare it or take it."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ContractMissing(f"{file}: expected the model's {CONTRACT_FILE}: {error.strerror}") from None
    try:
        found = contract.read(data)
        wanted = contract.read(expect.read_bytes()) if expect else found
    except ContractError as error:
        raise ContractInvalid(f"{file}: {error}") from None
    if changes := [*contract.compare(wanted, found), *contract.compare(found, wanted)]:
        raise ContractMismatch(
            f"{file}: the source promises {found}, expected {wanted}: {'; '.join(map(str, changes))}"
        )
    if into is not None:
        (into / CONTRACT_FILE).write_bytes(data)
    log.info("contract accepted", extra={"contract": str(found)})


def _place(target: Target, part: Path, name: str, path: str) -> None:
    """Unpacks an archive, or puts a plain file where it belongs, and commits."""
    folder = target.aside / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    if archive.is_archive(name):
        archive.unpack(part, name, folder)
        chosen = folder / path if path else folder
        if not chosen.is_dir() or not any(chosen.iterdir()):
            raise SourceEmpty(f"{name}: the archive has no folder {path!r} with files in it")
        target.commit(chosen)
        return
    file = folder / (path or name)
    file.parent.mkdir(parents=True)
    shutil.move(part, file)
    target.commit(folder)


def _check_manifest(folder: Path, expected: str, prefix: str) -> None:
    files = sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())
    lines = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {path}\n" for path, file in files)
    got = hashlib.sha256(lines.encode()).hexdigest()
    if got != expected:
        shutil.rmtree(folder)
        raise ChecksumMismatch(f"s3://{prefix}: expected a listing of sha256 {expected}, got {got}")
