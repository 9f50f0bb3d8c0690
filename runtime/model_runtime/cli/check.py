"""`model-runtime check`: tests a running runtime, or a model directory, against the rules that clients and clusters rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import grpc

from .. import synthesis
from ..client import Client
from ..contract import CONTRACT_FILE, Contract, Signature
from ..errors import ModelRuntimeError
from ..model.directory import ModelDirectory
from ..model.service import RuntimeService
from ..prediction import Predictor
from ..protocols import PROTOCOL_BY_PATH, PROTOCOLS, Protocol
from ..tensors import CODECS, Tensor
from . import inspect, options
from .predict import failure

V2 = PROTOCOLS["v2"]
_STATUS_SERVING = b"\x08\x01"  # StatusResponse {1: SERVING}


class Finding(NamedTuple):
    """One rule; `problem` is None where it is kept, else what came instead."""

    rule: str
    problem: str | None = None


def _target(context: click.Context, parameter: click.Parameter, value: str) -> str:
    return value if value and Path(value).is_dir() else options.target(context, parameter, value)


@click.command()
@click.argument("target", metavar="HOST:PORT|DIR", callback=_target)
@options.contract
@options.timeout(30.0)
@options.tls
def check(
    target: str,
    contract_path: Path | None,
    timeout: float,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
) -> int:
    """Check a running runtime (HOST:PORT), or a model directory (DIR), rule by rule.

    A runtime is sent predictions made up from its contract over every protocol's path, and wrong ones. A directory's model is
    loaded into this process and called once.
    A rule that is broken, or a runtime that cannot be reached, ends the command with exit status 1.
    """
    credentials = options.credentials(tls_ca, tls_cert, tls_key)
    if Path(target).is_dir():
        return _report(_directory(Path(target)))
    with Client(target, credentials=credentials, timeout=timeout) as runtime:
        return _report(_runtime(runtime, contract_path))


def _report(found: Iterator[Finding]) -> int:
    findings = []
    for finding in found:  # each is printed when it is known: a slow rule does not hide those before it
        findings.append(finding)
        click.echo(
            f"{'ok  ' if finding.problem is None else 'FAIL'}  {finding.rule}"
            + (f": {finding.problem}" if finding.problem else "")
        )
    failed = sum(finding.problem is not None for finding in findings)
    click.echo(f"{len(findings) - failed} passed, {failed} failed")
    return 1 if failed else 0


# A model directory --------------------------------------------------------------------------------------------------


def _directory(path: Path) -> Iterator[Finding]:
    directory = ModelDirectory(path.absolute())
    try:
        service = RuntimeService(directory.path, directory.read_contract())
        yield Finding(f"{CONTRACT_FILE} is a contract: {service.contract}")
        service.load()
        yield Finding("the model's code is imported and has the functions that the contract names")
        for signature in service.contract.signatures:
            request = CODECS[V2.name].encode_request(synthesis.inputs(signature.inputs), signature.name)
            Predictor(service).handle(V2.path, request)
            yield Finding(f"{signature.name} answers a made-up request within its contract")
    except ModelRuntimeError as error:
        yield Finding(type(error).__name__, str(error))
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the model's code raises anything, SystemExit included
        yield Finding("the model's code raises errors that the runtime knows", f"{type(error).__name__}: {error}")


# A running runtime --------------------------------------------------------------------------------------------------


def _runtime(runtime: Client, contract_path: Path | None) -> Iterator[Finding]:
    known = inspect.read(contract_path)[1] if contract_path else None
    try:
        runtime.health("")
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            yield Finding("the runtime can be reached", f"no connection to {failure(error, runtime.target)}")
            return
    yield from _discovery(runtime)
    try:
        known = known or runtime.told_contract()
    except (grpc.RpcError, ModelRuntimeError) as error:
        yield Finding(
            "the contract can be asked for",
            str(failure(error, "an error") if isinstance(error, grpc.RpcError) else error),
        )
        return
    if known is None:
        yield Finding("the contract is known", "the runtime does not tell its contract; give it with --contract")
        return
    yield from _predictions(runtime, known)


def _discovery(runtime: Client) -> Iterator[Finding]:
    yield _expect("health of the process is SERVING", "SERVING", runtime.health, "")
    for protocol in PROTOCOLS.values():
        yield _expect(f"health of {protocol.service} is SERVING", "SERVING", runtime.health, protocol.service)
        if protocol.status:
            yield _expect(f"{protocol.status} says SERVING", _STATUS_SERVING, _status, runtime, protocol.status)
    unknown = grpc.StatusCode.NOT_FOUND
    yield _expect("health of an unknown service is NOT_FOUND", unknown, runtime.health, "no.such.Service")
    yield _expect(
        "an unknown method is UNIMPLEMENTED", grpc.StatusCode.UNIMPLEMENTED, runtime.call, "/no.such.Service/Call"
    )


def _predictions(runtime: Client, known: Contract) -> Iterator[Finding]:
    refused = grpc.StatusCode.INVALID_ARGUMENT
    for signature in known.signatures:
        inputs = synthesis.inputs(signature.inputs)
        names = {field.name for field in signature.outputs}
        for protocol in PROTOCOLS.values():
            if _can_ask(protocol, signature, len(known.signatures)):
                yield _expect(
                    f"{signature.name} answers over {protocol.path}",
                    names,
                    _names,
                    runtime,
                    inputs,
                    protocol,
                    signature.name,
                )
        if inputs:
            extra = {**inputs, "no such input": next(iter(inputs.values()))}
            yield _expect(
                "an input that the contract does not know is refused",
                refused,
                _names,
                runtime,
                extra,
                V2,
                signature.name,
            )
            yield _expect("a missing input is refused", refused, _names, runtime, {}, V2, signature.name)
    for path in PROTOCOL_BY_PATH:
        yield _expect(f"bytes that are no request are refused over {path}", refused, runtime.call, path, b"\xff")


def _can_ask(protocol: Protocol, signature: Signature, signatures: int) -> bool:
    fields = (*signature.inputs, *signature.outputs)
    return (signatures == 1 or bool(protocol.signature_path)) and all(
        protocol.can_carry(field.dtype) for field in fields
    )


def _status(runtime: Client, path: str) -> bytes:
    return runtime.call(path)[: len(_STATUS_SERVING)]


def _names(runtime: Client, inputs: Mapping[str, Tensor], protocol: Protocol, signature: str) -> set[str]:
    return set(runtime.predict(inputs, protocol=protocol, signature=signature))


def _expect(rule: str, wanted: object, call: Callable[..., object], *arguments: object) -> Finding:
    """Calls, and compares what comes with what is wanted: a value, or an error of that status code."""
    try:
        got = call(*arguments)
    except grpc.RpcError as error:
        return Finding(rule, None if error.code() is wanted else f"expected {wanted}, got {failure(error, 'an error')}")
    except ModelRuntimeError as error:
        return Finding(rule, f"expected {wanted}, got {error}")
    return Finding(rule, None if got == wanted else f"expected {wanted}, got {got!r}")
