"""`model-runtime predict`: one request to a running runtime, ours or Hydrosphere's own, and its answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np

from .. import client, contract
from ..client import Client
from ..contract import CONTRACT_FILE, Contract, Signature
from ..protocols import PROTOCOLS
from . import arguments

ANSWER_FORMATS = ("json", "table")
PREVIEW_VALUES = 8


@click.command()
@click.argument("target", metavar="HOST:PORT")
@click.argument("inputs", nargs=-1)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="v2",
    show_default=True,
    help="An era of Hydrosphere's (TensorFlow Serving's is v2), or KServe's.",
)
@click.option("--signature", "name", default="", help="The signature to call, where the contract has several.")
@click.option(
    "--contract",
    "contract_path",
    type=click.Path(exists=True, path_type=Path),
    help="Directory or file of the contract, if not asked.",
)
@click.option("-o", "--output", type=click.Choice(ANSWER_FORMATS), default="json", show_default=True)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for the answer.")
@click.option(
    "--tls-ca", type=click.Path(exists=True, path_type=Path), help="Certificates to trust (PEM); turns TLS on."
)
@click.option(
    "--tls-cert", type=click.Path(exists=True, path_type=Path), help="Our own certificate (PEM), for mutual TLS."
)
@click.option("--tls-key", type=click.Path(exists=True, path_type=Path), help="The key of --tls-cert (PEM).")
def predict(
    target: str,
    inputs: tuple[str, ...],
    protocol: str,
    name: str,
    contract_path: Path | None,
    output: str,
    timeout: float,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> int:
    """Send one request and print the answer.

    INPUTS are NAME=VALUE (JSON, text, @file.json, @file.npy or @file for the bytes of a string), or one JSON object of them all
    (or @file.json of one). Without INPUTS they are made up from the contract, which the runtime is asked for.

    \b
    model-runtime predict localhost:9090
    model-runtime predict localhost:9090 x=3 y='[[1.5, 2]]'
    model-runtime predict localhost:9090 pixels=@image.npy -o table
    """
    credentials = client.credentials(tls_ca, tls_cert, tls_key) if tls_ca else None
    with Client(target, credentials=credentials, timeout=timeout) as runtime:
        known = contract_of(contract_path) if contract_path else asked_contract(runtime)
        request = arguments.inputs(inputs, _signature(known, name))
        started = time.perf_counter()
        try:
            answer = runtime.predict(request, protocol=PROTOCOLS[protocol], signature=name)
        except grpc.RpcError as error:
            click.echo(failure(error, target), err=True)
            return 1
    show(answer, output, time.perf_counter() - started)
    return 0


def contract_of(path: Path) -> Contract:
    """The contract in a model directory or a contract.protobin."""
    return contract.read((path / CONTRACT_FILE if path.is_dir() else path).read_bytes())


def asked_contract(runtime: Client) -> Contract | None:
    """What the runtime says it promises; None where it cannot be asked (other runtimes) or reached (the call will tell)."""
    try:
        return runtime.contract()
    except grpc.RpcError:
        return None


def _signature(known: Contract | None, name: str) -> Signature | None:
    if known is None:
        return None
    found = known.signature(name) if name else known.signatures[0]
    if found is None:
        names = ", ".join(signature.name for signature in known.signatures)
        raise click.UsageError(f"--signature: expected one of {names}, got {name!r}")
    return found


def failure(error: grpc.RpcError, target: str) -> str:
    """An RPC's error as a person wants it: status, text, and each violation on a line of its own."""
    violations = client.violations(error)
    text = error.details() or "no details"
    head = f"{target}: {error.code().name}: {text.partition(';')[0] if violations else text}"
    return "\n".join([head, *(f"  {violation}" for violation in violations)])


def show(answer: dict[str, Any], output: str, seconds: float) -> None:
    if output == "json":
        click.echo(json.dumps(answer, default=plain, ensure_ascii=False))
        return
    rows = [(name, _type(value), _preview(value)) for name, value in answer.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, kind, preview in rows:
        click.echo(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {preview}")
    click.echo(f"answered in {seconds * 1000:.1f} ms", err=True)


def plain(value: Any) -> Any:
    """What json makes of numpy values and bytes."""
    if isinstance(value, np.ndarray | np.generic):
        listed = value.tolist()
        return [listed.real, listed.imag] if isinstance(listed, complex) else listed
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _type(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    return type(value).__name__


def _preview(value: Any) -> str:
    if not isinstance(value, np.ndarray) or value.size <= PREVIEW_VALUES:
        return json.dumps(value, default=plain, ensure_ascii=False)
    return ", ".join(str(item) for item in value.ravel()[:PREVIEW_VALUES]) + f", … {value.size - PREVIEW_VALUES} more"
