"""Parameters that several commands share. A value that makes no sense is refused before anything is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from .. import client, settings

Command = TypeVar("Command", bound=Callable[..., Any])

_GRPC_SCHEMES = re.compile(r"(dns|unix|unix-abstract|ipv4|ipv6|vsock|xds|passthrough):")
_MAX_SECONDS = 86400.0


def target(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Accepts HOST:PORT, or a gRPC target with its scheme (`dns:///…`, `unix:…`). Raises click.BadParameter."""
    if _GRPC_SCHEMES.match(value):
        return value
    host, _, port = value.rpartition(":")
    try:
        if not host or "/" in host or (":" in host and not host.startswith("[")):
            raise ValueError
        settings.port(port)
    except ValueError:
        raise click.BadParameter(f"expected HOST:PORT, such as localhost:9090 or [::1]:9090, got {value!r}") from None
    return value


def _seconds(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    if not 0 < value <= _MAX_SECONDS:  # false for NaN
        raise click.BadParameter(f"expected seconds, more than 0 and at most {_MAX_SECONDS:g}, got {value:g}")
    return value


def timeout(default: float) -> Callable[[Command], Command]:
    text = "Seconds to wait for each answer."
    return click.option("--timeout", type=float, callback=_seconds, default=default, show_default=True, help=text)


contract = click.option(
    "--contract",
    "contract_path",
    type=click.Path(exists=True, path_type=Path),
    help="A contract.protobin, or the directory that holds it, for a runtime that does not tell its contract.",
)


def tls(command: Command) -> Command:
    """Adds --tls-ca, --tls-cert and --tls-key; `credentials` makes of them what a client takes."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for name, text in (
        ("--tls-key", "The private key of --tls-cert (PEM)."),
        ("--tls-cert", "The client's certificate (PEM), for mutual TLS; goes together with --tls-key."),
        ("--tls-ca", "Certificates to trust (PEM). Turns TLS on."),
    ):
        command = click.option(name, type=file, help=text)(command)
    return command


def credentials(tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> grpc.ChannelCredentials | None:
    """Returns the credentials that the options ask for; None is a connection without TLS. Raises click.UsageError."""
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together, got only one of them")
    if tls_ca is None:
        if tls_cert is not None:
            raise click.UsageError("--tls-cert: expected --tls-ca too, got a certificate for a connection without TLS")
        return None
    return client.credentials(tls_ca, tls_cert, tls_key)
