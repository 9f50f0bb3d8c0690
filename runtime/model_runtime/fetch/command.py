"""`model-runtime fetch http | s3 | gcs | azure | contract`: the steps that bring a model to a pod before it starts."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from .. import contract
from ..contract import CONTRACT_FILE
from ..errors import (
    ContractError,
    ContractInvalid,
    ContractMismatch,
    ContractMissing,
    DownloadFailed,
    SourceEmpty,
)
from ..server import program, step
from . import archive, buckets, digest, paths, settings, unpacking
from .buckets import Bucket
from .http import Address, download
from .settings import Limits
from .target import Target

log = logging.getLogger(__name__)

_LARGEST_CONTRACT = 64 << 20


def _sha256_option(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9A-Fa-f]{64}", value):
        raise click.BadParameter(f"expected 64 hex digits, got {value!r}")
    return value.lower() if value else None


_SHA256 = click.option(
    "--sha256", required=True, callback=_sha256_option, help="The sha256 of the file, 64 hex digits."
)
_INTO = click.option(
    "--into", required=True, type=click.Path(path_type=Path), help="The files end up in files/ of this directory."
)
_ENDPOINT = click.option("--endpoint", help="The store's address, http:// or https:// (default: the cloud's own).")
_ANONYMOUS = click.option("--anonymous", is_flag=True, help="Send no credentials: the objects are public.")
_MANIFEST = click.option(
    "--manifest-sha256",
    callback=_sha256_option,
    help="The sha256 of the listing `<sha256>  <path>` of all files, or of the one archive.",
)


def _step(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    def run(*arguments: Any, **options: Any) -> None:
        whole = partial(function, *arguments, **options)
        status = step.run(whole, DownloadFailed, lambda: settings.limits().timeout_seconds)
        if status != program.OK:
            sys.exit(status)

    return run


@click.group()
def fetch() -> None:
    """Bring a model's files here before it is served: resumable, verified, atomic.

    FETCH_MAX_BYTES, FETCH_MAX_FILES, FETCH_MAX_RATIO (of an archive beyond 1 GiB) and FETCH_TIMEOUT_SECONDS bound it. Proxies
    (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and certificates (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, ...) come from the environment.
    """


@fetch.command("http")
@click.argument("url")
@_SHA256
@click.option("--path", default="", help="The folder in the archive that holds the files, or a plain file's own path.")
@_INTO
@_step
def fetch_http(url: str, sha256: str, path: str, into: Path) -> None:
    """A file or archive at an http(s) address. HTTP_AUTHORIZATION, where set, is sent as the header."""
    address, limits = Address.parse(url), settings.limits()
    _check_path(address.shown, path)
    with Target(into, f"http {sha256} {path}").locked() as target:
        if target.is_done:
            log.info("fetched already", extra={"sha256": sha256})
            return
        part = target.aside / "part"
        download(address, part, sha256, limits)
        _place(target, part, address.file_name, path, limits)


@fetch.command("s3")
@click.argument("bucket")
@click.argument("prefix")
@_ENDPOINT
@click.option("--region", help="The region (default: AWS_REGION, else us-east-1).")
@_ANONYMOUS
@_MANIFEST
@_INTO
@_step
def fetch_s3(
    bucket: str,
    prefix: str,
    endpoint: str | None,
    region: str | None,
    anonymous: bool,
    manifest_sha256: str | None,
    into: Path,
) -> None:
    """The objects below the folder PREFIX of an S3-compatible store, or the one archive that PREFIX names.

    Credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else a web identity (IRSA), a container's role (EKS Pod Identity) or
    the instance's role.
    """
    opened = buckets.s3(bucket, endpoint=endpoint, region=region, anonymous=anonymous)
    _fetch_objects(opened, prefix, manifest_sha256, into)


@fetch.command("gcs")
@click.argument("bucket")
@click.argument("prefix")
@_ENDPOINT
@_ANONYMOUS
@_MANIFEST
@_INTO
@_step
def fetch_gcs(
    bucket: str, prefix: str, endpoint: str | None, anonymous: bool, manifest_sha256: str | None, into: Path
) -> None:
    """The objects below the folder PREFIX of a Google Cloud bucket, or the one archive that PREFIX names.

    Credentials: GOOGLE_SERVICE_ACCOUNT_KEY (JSON), a file that GOOGLE_APPLICATION_CREDENTIALS names, else the identity of the pod
    or instance.
    """
    _fetch_objects(buckets.gcs(bucket, endpoint=endpoint, anonymous=anonymous), prefix, manifest_sha256, into)


@fetch.command("azure")
@click.argument("container")
@click.argument("prefix")
@click.option("--account", help="The storage account (default: AZURE_STORAGE_ACCOUNT_NAME).")
@_ENDPOINT
@_ANONYMOUS
@_MANIFEST
@_INTO
@_step
def fetch_azure(
    container: str,
    prefix: str,
    account: str | None,
    endpoint: str | None,
    anonymous: bool,
    manifest_sha256: str | None,
    into: Path,
) -> None:
    """The blobs below the folder PREFIX of an Azure container, or the one archive that PREFIX names.

    Credentials: AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN, a client secret (AZURE_CLIENT_ID, AZURE_CLIENT_SECRET,
    AZURE_TENANT_ID), else the workload's or machine's identity.
    """
    opened = buckets.azure(container, account=account, endpoint=endpoint, anonymous=anonymous)
    _fetch_objects(opened, prefix, manifest_sha256, into)


@fetch.command("contract")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--expect", type=click.Path(path_type=Path), help="Another contract.protobin, which must promise the same."
)
@click.option("--into", type=click.Path(path_type=Path), help="Copy it into this directory.")
@_step
def fetch_contract(file: Path, expect: Path | None, into: Path | None) -> None:
    """Check the contract.protobin that a source holds, and compare it or take it."""
    data = _contract_bytes(file)
    try:
        found = contract.read(data)
        wanted = contract.read(_contract_bytes(expect)) if expect else found
    except ContractError as error:
        raise ContractInvalid(f"{file}: {error}") from None
    if changes := [*contract.compare(wanted, found), *contract.compare(found, wanted)]:
        raise ContractMismatch(
            f"{file}: the source promises {found}, expected {wanted}: {'; '.join(map(str, changes))}"
        )
    if into is not None:
        (into / CONTRACT_FILE).write_bytes(data)
    log.info("contract accepted", extra={"contract": str(found)})


def _contract_bytes(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise ContractMissing(f"{file}: expected the model's {CONTRACT_FILE}, found none")
        with file.open("rb") as stream:
            data = stream.read(_LARGEST_CONTRACT + 1)
    except OSError as error:
        raise ContractMissing(f"{file}: expected the model's {CONTRACT_FILE}: {error.strerror}") from None
    if len(data) > _LARGEST_CONTRACT:
        raise ContractInvalid(f"{file}: expected a contract, got more than {_LARGEST_CONTRACT} bytes")
    return data


def _fetch_objects(bucket: Bucket, prefix: str, manifest_sha256: str | None, into: Path) -> None:
    limits, name = settings.limits(), bucket.shown(prefix)
    items = buckets.listing(bucket, prefix, limits)
    known = hashlib.sha256("".join([f"{name} {manifest_sha256}\n", *(item.identity for item in items)]).encode())
    with Target(into, f"objects {known.hexdigest()}").locked() as target:
        if target.is_done:
            log.info("fetched already", extra={"objects": len(items)})
            return
        folder = target.aside / "objects"
        buckets.download(bucket, items, folder)
        if len(items) == 1 and archive.is_archive(items[0].key):
            part = folder / items[0].path
            if manifest_sha256:
                digest.check(part, manifest_sha256, name)
            _place(target, part, items[0].path, "", limits)
            return
        if manifest_sha256:
            digest.check_folder(folder, manifest_sha256, name)
        target.commit(folder)


def _check_path(name: str, path: str) -> None:
    """Refuses a path that leads out before anything is downloaded."""
    try:
        paths.relative(path)
    except ValueError as error:
        raise DownloadFailed(f"{name}: --path: {error}") from None


def _place(target: Target, part: Path, name: str, path: str, limits: Limits) -> None:
    """Unpacks an archive, or puts a plain file where it belongs, and commits."""
    folder = target.aside / "unpacked"
    target.clear(folder)
    if archive.is_archive(name):
        unpacking.unpack(part, name, folder, limits)
        target.commit(_chosen(folder, name, path))
        return
    try:
        file = folder / paths.relative(path or name)
    except ValueError as error:
        raise DownloadFailed(f"{name}: {error}") from None
    file.parent.mkdir(parents=True)
    part.replace(file)
    target.commit(folder)


def _chosen(folder: Path, name: str, path: str) -> Path:
    """The folder of the archive that is asked for, whole: links of it that lead elsewhere would lead nowhere."""
    try:
        chosen = paths.follow(folder, paths.relative(path))
        if not chosen.is_dir() or not any(chosen.iterdir()):
            raise SourceEmpty(f"{name}: the archive has no folder {path!r} with files in it")
        paths.check_links(chosen)
    except ValueError as error:
        raise DownloadFailed(f"{name}: {error}") from None
    return chosen
