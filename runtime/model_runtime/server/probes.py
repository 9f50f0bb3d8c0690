"""Health without TLS, for probes that cannot speak it: on a port for the kubelet, on a socket of this machine for HEALTHCHECK.

Nothing else is answered there. Without TLS the runtime's own port can be asked, and the socket is not needed.
"""

from __future__ import annotations

import logging
import sys

import grpc

from ..settings import Settings
from . import control, engine, options, ports
from .engine import Behaviour, Places
from .health import SERVICE, Health

log = logging.getLogger(__name__)

MAX_PROBES = 100  # whose message has not come


def local_target(port: int) -> str:
    """The gRPC target of the socket: of this network namespace, named by the runtime's port, which is unique in it."""
    return f"unix-abstract:model-runtime-health-{port}"


def server(settings: Settings, port: int, health: Health) -> grpc.Server | None:
    """A server that is bound and not started, or None where no probe needs one. Raises PortUnavailable."""
    has_tls = settings.tls_cert_file is not None
    if not settings.health_port and not has_tls:
        return None
    answering = grpc.server(engine.executor(), options=options.of_probes(settings, streams=MAX_PROBES))
    answering.add_generic_rpc_handlers((_handler(health),))
    if settings.health_port:
        ports.bind(answering, settings.host, settings.health_port, variable="HEALTH_PORT")
    if has_tls and sys.platform == "linux":
        _bind_local(answering, local_target(port))
    return answering


def _bind_local(answering: grpc.Server, target: str) -> None:
    """A runtime that serves does not fail for a HEALTHCHECK that nobody may need."""
    try:
        answering.add_insecure_port(target)
    except RuntimeError as error:
        log.warning("no health on the local socket", extra={"target": target, "error": str(error)})


def _handler(health: Health) -> grpc.GenericRpcHandler:
    pool, arrivals = engine.executor(), Places(MAX_PROBES, "wait for their messages")
    answers = {"Check": control.check(health), "List": control.statuses(health)}
    table: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(Behaviour(control.Plain(answer), pool, arrivals))
        for name, answer in answers.items()
    }
    return grpc.method_handlers_generic_handler(SERVICE, table)
