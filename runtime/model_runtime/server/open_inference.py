"""What the Open Inference Protocol asks beside predictions: whether server and model are ready, what the model takes and gives.

A port has one model, under whatever name it is asked for: the answers repeat the name. Messages are small and written by hand, as
everywhere in the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata

from .. import wire
from ..contract import Contract, Field
from ..protocols import DATATYPES
from ..protocols import OPEN_INFERENCE as SERVICE
from ..supervisor.host import Phase
from .health import Health

_PLATFORM = "python"
_ANY_SHAPE = (-1,)  # the protocol cannot say that any shape will do

Answer = Callable[[bytes], bytes]


def answers(contract: Contract, health: Health) -> dict[str, Answer]:
    """Path to what answers a request's bytes. The answers raise wire.WireError for bytes that are no request."""
    signature = contract.signatures[0]
    described = b"".join((*_tensors(4, signature.inputs), *_tensors(5, signature.outputs)))

    def is_ready(_request: bytes) -> bytes:
        return _truth(health.state.phase is Phase.SERVING)

    def describe(request: bytes) -> bytes:
        return wire.length_field(1, _name(request) or contract.model_name.encode()) + _MODEL + described

    return {
        f"/{SERVICE}/ServerLive": lambda _request: _truth(health.is_alive()),
        f"/{SERVICE}/ServerReady": is_ready,
        f"/{SERVICE}/ModelReady": is_ready,
        f"/{SERVICE}/ServerMetadata": lambda _request: _SERVER,
        f"/{SERVICE}/ModelMetadata": describe,
    }


_SERVER = wire.length_field(1, b"model-runtime") + wire.length_field(2, metadata.version("model-runtime").encode())
_MODEL = wire.length_field(3, _PLATFORM.encode())


def _truth(value: bool) -> bytes:
    """{1: bool}: what ServerLiveResponse and its like are."""
    return wire.varint_field(1, 1) if value else b""


def _name(request: bytes) -> bytes:
    """Of ModelMetadataRequest {1: name}."""
    name = b""
    for number, kind, start, end in wire.fields(request):
        if (number, kind) == (1, wire.LENGTH):
            name = wire.read_text(request, start, end).encode()
    return name


def _tensors(number: int, fields: tuple[Field, ...]) -> Iterator[bytes]:
    """A TensorMetadata {1: name, 2: datatype, 3: shape} for each field."""
    for field in fields:
        shape = b"".join(map(wire.varint, _ANY_SHAPE if field.shape is None else field.shape))
        datatype = DATATYPES.get(field.dtype, field.dtype.label.upper())
        told = wire.length_field(1, field.name.encode()) + wire.length_field(2, datatype.encode())
        yield wire.length_field(number, told + (wire.length_field(3, shape) if shape else b""))
