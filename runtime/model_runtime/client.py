"""A client of runtimes, of ours and of Hydrosphere's own: health, Status, predictions over any protocol, the contract.

For the command line, tests and whoever wants numpy in and numpy out. Never used by the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from . import tensors
from .contract import Contract, DataType, discovery
from .errors import Violation
from .protocols import PROTOCOLS, Protocol
from .settings import MIB
from .tensors import Tensor

_OPTIONS = [("grpc.max_receive_message_length", 512 * MIB), ("grpc.max_send_message_length", 512 * MIB)]


class Client:
    """Calls one runtime at `target` (HOST:PORT, or any gRPC target)."""

    def __init__(
        self, target: str, *, credentials: grpc.ChannelCredentials | None = None, timeout: float = 60.0
    ) -> None:
        self.target, self.timeout = target, timeout
        self.channel = (
            grpc.insecure_channel(target, _OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _OPTIONS)
        )

    def predict(
        self,
        inputs: Mapping[str, Tensor],
        *,
        protocol: Protocol = PROTOCOLS["v2"],
        signature: str = "",
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Name to numpy value of the answer. Raises grpc.RpcError; `violations` tells what it says of the contract."""
        codec = tensors.CODECS[protocol.name]
        answer = self._unary(protocol.path)(codec.encode_request(inputs, signature), timeout=timeout or self.timeout)
        return {name: value(tensor) for name, tensor in codec.decode_response(answer).items()}

    def contract(self) -> Contract:
        """What the runtime promises. Only ours can be asked; others answer UNIMPLEMENTED."""
        return discovery.read(self.call(discovery.PATH))

    def call(self, path: str, request: bytes = b"") -> bytes:
        """The raw answer of any unary method."""
        return self._unary(path)(request, timeout=self.timeout)

    def health(self, service: str = "") -> str:
        """`SERVING`, `NOT_SERVING`, … as grpc.health.v1 says."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=self.timeout)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unary(self, path: str) -> Callable[..., bytes]:
        return self.channel.unary_unary(path)


def value(tensor: Tensor) -> Any:
    """The numpy value of a tensor: text as text, maps as dicts, scalars as scalars."""
    array = tensors.array(tensor)
    if tensor.dtype is DataType.STRING:
        with contextlib.suppress(tensors.TensorError):  # a picture, a sound: the bytes stay
            array = tensors.text(array)
    elif tensor.dtype is DataType.MAP:
        for index in range(array.size):
            array.flat[index] = {name: value(nested) for name, nested in array.flat[index].items()}
    return array[()] if array.ndim == 0 else array


def violations(error: grpc.RpcError) -> list[Violation]:
    """The field violations (`google.rpc.BadRequest`) that an error of a runtime carries."""
    status = rpc_status.from_call(error)
    found: list[Violation] = []
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            found += [Violation(violation.field, violation.description) for violation in request.field_violations]
    return found


def credentials(ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """TLS from PEM files: who may be trusted, and for mutual TLS who we are."""
    root, private, chain = (file.read_bytes() if file else None for file in (ca, key, cert))
    return grpc.ssl_channel_credentials(root, private, chain)
