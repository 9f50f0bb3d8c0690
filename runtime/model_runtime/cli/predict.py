"""`model-runtime predict`: sends one request to a running runtime, this project's or Hydrosphere's own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np

from .. import client
from ..client import Client
from ..contract import Contract, Signature
from ..protocols import PROTOCOLS
from . import arguments, inspect, options

ANSWER_FORMATS = ("json", "table")
PREVIEW_VALUES = 8


@click.command()
@click.argument("target", metavar="HOST:PORT", callback=options.target)
@click.argument("inputs", nargs=-1)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="v2",
    show_default=True,
    help="An era of Hydrosphere (v2 is also TensorFlow Serving's protocol), or KServe's Open Inference Protocol.",
)
@click.option("--signature", "name", default="", help="The signature to call, where the contract has several.")
@options.contract
@click.option(
    "-o",
    "--output",
    type=click.Choice(ANSWER_FORMATS),
    default="json",
    show_default=True,
    help="How the answer is printed.",
)
@options.timeout(60.0)
@options.tls
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

    INPUTS are NAME=VALUE, where VALUE is JSON, text, @file.json, @file.npy, or @file for the bytes of a string; or one JSON
    object of all inputs, or @file.json of one. Without INPUTS, values are made up from the runtime's contract.
    A runtime that cannot be reached, or refuses the request, ends the command with exit status 1 and its gRPC status.

    \b
    model-runtime predict localhost:9090
    model-runtime predict localhost:9090 x=3 y='[[1.5, 2]]'
    model-runtime predict localhost:9090 pixels=@image.npy -o table
    """
    credentials = options.credentials(tls_ca, tls_cert, tls_key)
    with Client(target, credentials=credentials, timeout=timeout) as runtime:
        try:
            known = inspect.read(contract_path)[1] if contract_path else runtime.told_contract()
            request = arguments.inputs(inputs, _signature(known, name))
            started = time.perf_counter()
            answer = runtime.predict(request, protocol=PROTOCOLS[protocol], signature=name)
        except grpc.RpcError as error:
            click.echo(failure(error, target), err=True)
            return 1
    show(answer, output, time.perf_counter() - started)
    return 0


def _signature(known: Contract | None, name: str) -> Signature | None:
    if known is None:
        return None
    found = known.signature(name) if name else known.signatures[0]
    if found is None:
        names = ", ".join(signature.name for signature in known.signatures)
        raise click.UsageError(f"--signature: expected one of {names}, got {name!r}")
    return found


def failure(error: grpc.RpcError, target: str) -> str:
    """Returns an RPC's error for people: status, text, and each violation on a line of its own."""
    violations = client.violations(error)
    text = error.details() or "no details"
    head = f"{target}: {error.code().name}: {text.partition(';')[0] if violations else text}"
    return "\n".join([head, *(f"  {violation}" for violation in violations)])


def show(answer: dict[str, Any], output: str, seconds: float) -> None:
    if output == "json":
        is_utf = (sys.stdout.encoding or "").lower().startswith("utf")
        click.echo(json.dumps(answer, default=plain, ensure_ascii=not is_utf))
        return
    rows = [(name, _type(value), _preview(value)) for name, value in answer.items()]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, kind, preview in rows:
        click.echo(f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {preview}")
    click.echo(f"answered in {seconds * 1000:.1f} ms", err=True)


def plain(value: Any) -> Any:
    """Returns the JSON form of a numpy value or bytes."""
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
