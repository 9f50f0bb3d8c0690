"""What the Open Inference Protocol asks beside predictions: whether server and model are ready, what the model takes and gives.

A port has one model, under whatever name and version it is asked for: the answers repeat both. A name ending in /SIGNATURE means
that signature. Messages are small and written by hand, as everywhere in the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from .. import wire
from ..contract import Contract, Field, Signature
from ..protocols import DATATYPES, MODEL_VERSION
from ..protocols import OPEN_INFERENCE as SERVICE
from ..supervisor.host import Phase
from .control import Answer
from .health import Health
from .statistics import Statistics
from .tensorflow_serving import refusal

_PLATFORM = "python"
_MODEL_NAME = "model"  # where neither request nor contract names it
_STATES = {Phase.LOADING: "LOADING", Phase.SERVING: "READY", Phase.FAILED: "UNAVAILABLE"}
_ANY_SHAPE = (-1,)  # the protocol cannot say that any shape will do

# TYPE_… of Triton's ModelConfig
_CONFIG_ORDER = [*(name for name in DATATYPES.values() if name != "BF16" and name != "BYTES"), "BYTES", "BF16"]
_CONFIG_TYPES = {name: number for number, name in enumerate(_CONFIG_ORDER, 1)}
_SHARED_MEMORY = "is not served: send values in the request"
_ONE_MODEL = "is not served: the model is chosen when the runtime starts"
_REFUSED = {
    **{
        f"{kind}SharedMemory{method}": _SHARED_MEMORY
        for kind in ("System", "Cuda")
        for method in ("Status", "Register", "Unregister")
    },
    "RepositoryModelLoad": _ONE_MODEL,
    "RepositoryModelUnload": _ONE_MODEL,
    "TraceSetting": "is not served: set TRACING when the runtime starts",
    "LogSettings": "is not served: set LOG_LEVEL when the runtime starts",
}


def answers(contract: Contract, health: Health, statistics: Statistics) -> dict[str, Answer]:
    """Path to what answers a request's bytes. The answers raise wire.WireError for bytes that are no request."""
    properties = b"".join(wire.length_field(6, entry) for entry in _properties(contract))
    repository = contract.model_name or _MODEL_NAME

    def is_ready(_request: bytes) -> bytes:
        return _truth(health.state.phase is Phase.SERVING)

    def describe(request: bytes) -> bytes:
        name, version = _model(request, repository)
        head = _texts(name, version)
        return head + _MODEL + _described(contract, name) + properties

    def configure(request: bytes) -> bytes:
        name, _ = _model(request, repository)
        head = wire.length_field(1, name.encode()) + wire.length_field(2, _PLATFORM.encode())
        return wire.length_field(1, head + _configured(contract, name))

    def count(request: bytes) -> bytes:
        return wire.length_field(1, _texts(*_model(request, repository)) + statistics.message())

    def index(request: bytes) -> bytes:
        state = health.state
        if state.phase is not Phase.SERVING and _wants_ready(request):
            return b""
        reason = b"" if state.phase is Phase.SERVING else wire.length_field(4, state.message.encode("utf-8", "replace"))
        told = wire.length_field(3, _STATES[state.phase].encode())
        return wire.length_field(1, _texts(repository, str(MODEL_VERSION)) + told + reason)

    return {
        f"/{SERVICE}/ServerLive": lambda _request: _truth(health.is_alive()),
        f"/{SERVICE}/ServerReady": is_ready,
        f"/{SERVICE}/ModelReady": is_ready,
        f"/{SERVICE}/ServerMetadata": lambda _request: _SERVER,
        f"/{SERVICE}/ModelMetadata": describe,
        f"/{SERVICE}/ModelConfig": configure,
        f"/{SERVICE}/ModelStatistics": count,
        f"/{SERVICE}/RepositoryIndex": index,
        **{f"/{SERVICE}/{method}": refusal(method, why) for method, why in _REFUSED.items()},
    }


_SERVER = wire.length_field(1, b"model-runtime") + wire.length_field(2, metadata.version("model-runtime").encode())
_MODEL = wire.length_field(3, _PLATFORM.encode())


def _truth(value: bool) -> bytes:
    """{1: bool}: what ServerLiveResponse and its like are."""
    return wire.varint_field(1, 1) if value else b""


class _Model(NamedTuple):
    """What a request asks about."""

    name: str
    version: str


def _model(request: bytes, name: str) -> _Model:
    """Of ModelMetadataRequest {1: name, 2: version} and its like."""
    model = _Model("", "")
    for number, kind, start, end in wire.fields(request):
        if kind == wire.LENGTH and number in (1, 2):
            text = wire.read_text(request, start, end)
            model = model._replace(name=text) if number == 1 else model._replace(version=text)
    return _Model(model.name or name, model.version or str(MODEL_VERSION))


def _texts(name: str, version: str) -> bytes:
    """The first two fields of most answers."""
    return wire.length_field(1, name.encode()) + wire.length_field(2, version.encode())


def _wants_ready(request: bytes) -> bool:
    """RepositoryIndexRequest {2: ready}: models that are ready, and no others."""
    wanted = False
    for number, kind, value, _ in wire.fields(request):
        if (number, kind) == (2, wire.VARINT):
            wanted = bool(value)
    return wanted


def _signature(contract: Contract, name: str) -> Signature | None:
    """The signature that predictions of a model of that name are answered by."""
    return contract.signature(contract.signature_in(name))


def _properties(contract: Contract) -> Iterator[bytes]:
    """Every signature, as entries of a map<string, string>; none where there is only one, which `inputs` describe.

    MLServer's stubs have another type in this field, and cannot read an answer that has it.
    """
    for signature in contract.signatures if len(contract.signatures) > 1 else ():
        name, text = f"signature:{signature.name}", str(signature)
        yield wire.length_field(1, name.encode()) + wire.length_field(2, text.encode())


def _described(contract: Contract, name: str) -> bytes:
    """Fields 4 and 5 of ModelMetadataResponse; nothing where a request must name one of several signatures."""
    signature = _signature(contract, name)
    if signature is None:
        return b""
    return b"".join((*_tensors(4, signature.inputs), *_tensors(5, signature.outputs)))


def _configured(contract: Contract, name: str) -> bytes:
    """Fields 5 and 6 of ModelConfig: ModelInput {1: name, 2: data_type, 4: dims}, ModelOutput {…, 3: dims}."""
    signature = _signature(contract, name)
    if signature is None:
        return b""
    inputs = (wire.length_field(5, _config_tensor(field, 4)) for field in signature.inputs)
    outputs = (wire.length_field(6, _config_tensor(field, 3)) for field in signature.outputs)
    return b"".join((*inputs, *outputs))


def _config_tensor(field: Field, dims: int) -> bytes:
    kind = _CONFIG_TYPES.get(DATATYPES.get(field.dtype, ""), 0)
    told = wire.length_field(1, field.name.encode()) + wire.varint_field(2, kind)
    return told + (wire.length_field(dims, _shape(field)) if field.shape != () else b"")


def _shape(field: Field) -> bytes:
    return b"".join(map(wire.varint, _ANY_SHAPE if field.shape is None else field.shape))


def _tensors(number: int, fields: tuple[Field, ...]) -> Iterator[bytes]:
    """A TensorMetadata {1: name, 2: datatype, 3: shape} for each field."""
    for field in fields:
        shape = _shape(field)
        datatype = DATATYPES.get(field.dtype, field.dtype.label.upper())
        told = wire.length_field(1, field.name.encode()) + wire.length_field(2, datatype.encode())
        yield wire.length_field(number, told + (wire.length_field(3, shape) if shape else b""))
