"""A client of runtimes, of this one and of Hydrosphere's own: health, Status, predictions over any protocol, the contract.

Takes and returns numpy values and plain Python ones. Never used by the server.
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
from .contract import Contract, DataType, Signature, discovery
from .errors import InvalidRequest, OutputMismatch, Violation
from .model import values
from .protocols import PROTOCOLS, Protocol
from .settings import MIB
from .tensors import Tensor, TensorError
from .wire import WireError

_OPTIONS = [("grpc.max_receive_message_length", 512 * MIB), ("grpc.max_send_message_length", 512 * MIB)]


class Client:
    """Calls one runtime at `target` (HOST:PORT, or any gRPC target)."""

    def __init__(
        self, target: str, *, credentials: grpc.ChannelCredentials | None = None, timeout: float = 60.0
    ) -> None:
        self.target, self.timeout = target, timeout
        self._known: Contract | None = None
        self._was_asked = False
        self.channel = (
            grpc.insecure_channel(target, _OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _OPTIONS)
        )

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        protocol: Protocol = PROTOCOLS["v2"],
        signature: str = "",
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Returns the answer's values by name: numpy arrays, scalars for shape [], dicts for maps.

        Inputs are numpy arrays, numbers, text, bytes, lists or dicts. They are converted to the contract's types, without
        loss, where the runtime tells its contract; elsewhere their own types are sent. A `Tensor` is sent unchanged.

        Raises InvalidRequest for inputs that cannot be converted, grpc.RpcError for a call that failed (`violations` returns
        what it says about the contract), and OutputMismatch for an answer that cannot be read.
        """
        codec = tensors.CODECS[protocol.name]
        request = codec.encode_request(self._tensors(inputs, signature), signature)
        try:
            answer = self._unary(protocol.path)(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._was_asked = False  # another model may serve here now
            raise
        try:
            return {name: value(tensor) for name, tensor in codec.decode_response(answer).items()}
        except (WireError, TensorError) as error:
            raise OutputMismatch(f"{self.target}: the answer over {protocol.path} cannot be read: {error}") from None

    def _tensors(self, inputs: Mapping[str, Any], signature: str) -> Mapping[str, Tensor]:
        if all(isinstance(value, Tensor) for value in inputs.values()):
            return inputs
        is_fresh = not self._was_asked
        if is_fresh:
            self._known, self._was_asked = self.told_contract(), True
        try:
            return request_tensors(inputs, self._known.signature(signature) if self._known else None)
        except InvalidRequest:
            if is_fresh:
                raise
            self._was_asked = False  # another model may serve here now
            return self._tensors(inputs, signature)

    def contract(self) -> Contract:
        """Returns the contract. Only this project's runtimes tell it; others answer UNIMPLEMENTED."""
        return discovery.read(self.call(discovery.PATH))

    def told_contract(self) -> Contract | None:
        """Returns the contract, or None for a runtime that cannot be asked. Raises grpc.RpcError where the call fails."""
        try:
            return self.contract()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise

    def call(self, path: str, request: bytes = b"") -> bytes:
        """Returns the raw answer of any unary method."""
        return self._unary(path)(request, timeout=self.timeout)

    def health(self, service: str = "") -> str:
        """Returns `SERVING`, `NOT_SERVING`, … of grpc.health.v1."""
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


def request_tensors(inputs: Mapping[str, Any], signature: Signature | None) -> dict[str, Tensor]:
    """Returns the tensors to send for `inputs`: of the signature's types where it is known, else of the values' own.

    Inputs that the signature does not declare are sent as well, and missing ones are not: the runtime refuses both. Raises
    InvalidRequest with a violation for each value that cannot be converted.
    """
    declared = {field.name: field for field in signature.inputs} if signature else {}
    found = [Violation(f"inputs.{name}", "expected a value, got None") for name, each in inputs.items() if each is None]
    sent: dict[str, Tensor] = {}
    for name, each in inputs.items():
        if isinstance(each, Tensor):
            sent[name] = each
        elif name in declared and each is not None:
            sent |= values.returned((declared[name],), {name: each}, "inputs", found)
        elif each is not None:
            sent |= _of_own_type(name, each, found)
    if found:
        raise InvalidRequest("the inputs cannot be sent", found)
    return sent


def _of_own_type(name: str, given: Any, found: list[Violation]) -> dict[str, Tensor]:
    try:
        return {name: tensors.tensor(given)}
    except TensorError as error:
        found.append(Violation(f"inputs.{name}", str(error)))
        return {}


def value(tensor: Tensor) -> Any:
    """Returns the numpy value of a tensor: text as text, maps as dicts, scalars as scalars."""
    array = tensors.array(tensor)
    if tensor.dtype is DataType.STRING:
        with contextlib.suppress(tensors.TensorError):  # a picture, a sound: the bytes stay
            array = tensors.text(array)
    elif tensor.dtype is DataType.MAP:
        for index in range(array.size):
            array.flat[index] = {name: value(nested) for name, nested in array.flat[index].items()}
    return array[()] if array.ndim == 0 else array


def violations(error: grpc.RpcError) -> list[Violation]:
    """Returns the field violations (`google.rpc.BadRequest`) that an error of a runtime carries."""
    status = rpc_status.from_call(error)
    found: list[Violation] = []
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            found += [Violation(violation.field, violation.description) for violation in request.field_violations]
    return found


def credentials(ca: Path | None, cert: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """Returns TLS credentials from PEM files: the certificates to trust, and for mutual TLS the client's own."""
    root, private, chain = (file.read_bytes() if file else None for file in (ca, key, cert))
    return grpc.ssl_channel_credentials(root, private, chain)
