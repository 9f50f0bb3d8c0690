"""Binding a server to a port, with a clear word where that cannot be."""

from __future__ import annotations

import errno
import socket

import grpc

from ..errors import InvalidSetting, PortUnavailable


def bind(
    server: grpc.Server, host: str, port: int, *, variable: str, credentials: grpc.ServerCredentials | None = None
) -> int:
    """Returns the port that is bound. `variable` is the setting that chooses another. Raises PortUnavailable."""
    address = f"{host}:{port}"
    _check(host, port, variable)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise PortUnavailable(f"{address} cannot be bound: {error}") from None


def _check(host: str, port: int, variable: str) -> None:
    """Whether the port is free, asked before gRPC is: it reports a taken port as several lines of C++."""
    if port == 0:
        return
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # no IPv6 here: gRPC falls back to IPv4 by itself
            return
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InvalidSetting(
                f"APP_HOST: expected an address of this machine, got {host!r} ({error.strerror})"
            ) from None
        taken = (
            "is taken by another process" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
        )
        raise PortUnavailable(f"port {port} of {host} {taken} ({variable} chooses another)") from None
