"""`python -m model_runtime.server.healthcheck`: ends with 0 while the runtime of this container serves. The image's HEALTHCHECK.

Docker-era Hydrosphere takes a servable for ready on Docker's word `healthy` only. Kubernetes asks over gRPC itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import grpc

from .. import settings
from ..errors import InvalidSetting
from . import control, probes
from .health import Status

TIMEOUT_SECONDS = 4.0


def main() -> int:
    try:
        chosen = settings.from_environment()
        is_local = chosen.tls_cert_file is not None
        target = probes.local_target(chosen.app_port) if is_local else f"127.0.0.1:{chosen.app_port}"
        return 0 if _check(target) == control.response(Status.SERVING) else 1
    except (InvalidSetting, grpc.RpcError) as error:
        sys.stderr.write(f"{error.details() if isinstance(error, grpc.Call) else error}\n")
        return 1


def _check(target: str) -> bytes:
    # A proxy of the environment is not for this machine.
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        call: Callable[..., bytes] = channel.unary_unary(control.CHECK)
        return call(b"", timeout=TIMEOUT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
