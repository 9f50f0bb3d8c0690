"""What TensorFlow Serving's clients ask beside Predict: the signatures of the model, and whether it can be used.

A port has one model, under whatever name and version it is asked for: the answers repeat both.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from .. import wire
from ..contract import Contract, DataType, Field, Signature
from ..errors import InvalidRequest, UnknownMethod, Violation
from ..protocols import ERAS, MODEL_VERSION
from ..supervisor.host import Phase
from .control import Answer
from .engine import Result
from .health import Health

SERVICE = ERAS["v2"].service
MODEL_SERVICE = "tensorflow.serving.ModelService"

_SIGNATURES = "signature_def"  # the one metadata_field there is
_SIGNATURES_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
_METHOD_NAME = "tensorflow/serving/predict"
_LOADING, _AVAILABLE, _END = 20, 30, 50  # ModelVersionStatus.State
_STATES = {Phase.LOADING: _LOADING, Phase.SERVING: _AVAILABLE, Phase.FAILED: _END}
_UNAVAILABLE = 14  # google.rpc.Code
_NOT_TENSORFLOWS = (DataType.ANY, DataType.MAP)
_REFUSED = {
    f"/{SERVICE}/Classify": "takes tf.Example, which this runtime has no model for: call Predict",
    f"/{SERVICE}/Regress": "takes tf.Example, which this runtime has no model for: call Predict",
    f"/{SERVICE}/MultiInference": "takes tf.Example, which this runtime has no model for: call Predict",
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest": "cannot change the model: it is chosen when the runtime starts",
    "/tensorflow.serving.SessionService/SessionRun": "runs a graph, which the model is not: call Predict",
}


class Spec(NamedTuple):
    """ModelSpec {1: name, 2: Int64Value version}."""

    name: bytes = b""
    version: int = MODEL_VERSION

    def message(self) -> bytes:
        name = wire.length_field(1, self.name) if self.name else b""
        return name + wire.length_field(2, wire.varint_field(1, self.version))


def answers(contract: Contract, health: Health) -> dict[str, Answer]:
    """Path to what answers a request's bytes. The answers raise wire.WireError for bytes that are no request."""
    entry = _entry(
        _SIGNATURES, wire.length_field(1, _SIGNATURES_URL.encode()) + wire.length_field(2, _signatures(contract))
    )

    def metadata(request: bytes) -> Result:
        spec, asked = _asked(request)
        if not asked or set(asked) != {_SIGNATURES}:
            got = ", ".join(asked)[:200] or "none"
            wrong = Violation("metadata_field", f"expected {_SIGNATURES}, got {got}")
            return InvalidRequest("that metadata is not available", [wrong])
        return wire.length_field(1, spec.message()) + wire.length_field(2, entry)

    def status(request: bytes) -> Result:
        spec, _ = _asked(request)
        state = health.state
        error = b""
        if state.phase is Phase.FAILED:
            text = state.message.encode("utf-8", "replace")
            error = wire.varint_field(1, _UNAVAILABLE) + wire.length_field(2, text)
        told = (
            wire.varint_field(1, spec.version),
            wire.varint_field(2, _STATES[state.phase]),
            wire.length_field(3, error),
        )
        return wire.length_field(1, b"".join(told))

    return {
        f"/{SERVICE}/GetModelMetadata": metadata,
        f"/{MODEL_SERVICE}/GetModelStatus": status,
        **{path: refusal(path, why) for path, why in _REFUSED.items()},
    }


def refusal(path: str, why: str) -> Answer:
    """What answers a method that clients know and that is not served."""
    name = path.rpartition("/")[2]
    return lambda _request: UnknownMethod(f"{name} {why}")


# Requests -----------------------------------------------------------------------------------------------------------


def _asked(request: bytes) -> tuple[Spec, list[str]]:
    """GetModelMetadataRequest {1: model_spec, 2: repeated metadata_field}; GetModelStatusRequest has the first alone."""
    spec = Spec()
    asked: dict[str, None] = {}
    for number, kind, start, end in wire.fields(request):
        if (number, kind) == (1, wire.LENGTH):
            spec = _spec(request, start, end, spec)
        elif (number, kind) == (2, wire.LENGTH) and len(asked) < 2:
            asked[wire.read_text(request, start, end)] = None
    return spec, list(asked)


def _spec(request: bytes, start: int, end: int, spec: Spec) -> Spec:
    for number, kind, value, stop in wire.fields(request, start, end, 1):
        if (number, kind) == (1, wire.LENGTH):
            spec = spec._replace(name=wire.read_text(request, value, stop).encode())
        elif (number, kind) == (2, wire.LENGTH):
            found = [each[2] for each in wire.fields(request, value, stop, 2) if each[:2] == (1, wire.VARINT)]
            spec = spec._replace(version=wire.int64(found[-1]) if found else 0)
    return spec


# Signatures ---------------------------------------------------------------------------------------------------------


def _signatures(contract: Contract) -> bytes:
    """SignatureDefMap {1: map<string, SignatureDef>}."""
    return b"".join(wire.length_field(1, _entry(each.name, _signature(each))) for each in contract.signatures)


def _signature(signature: Signature) -> bytes:
    """SignatureDef {1: inputs, 2: outputs, 3: method_name}."""
    sides = _tensors(1, signature.inputs) + _tensors(2, signature.outputs)
    return sides + wire.length_field(3, _METHOD_NAME.encode())


def _tensors(number: int, fields: Iterable[Field]) -> bytes:
    """map<string, TensorInfo {1: name, 2: dtype, 3: tensor_shape}>."""
    told = b""
    for field in fields:
        dtype = b"" if field.dtype in _NOT_TENSORFLOWS else wire.varint_field(2, field.dtype)
        info = wire.length_field(1, field.name.encode()) + dtype + wire.length_field(3, _shape(field))
        told += wire.length_field(number, _entry(field.name, info))
    return told


def _shape(field: Field) -> bytes:
    """TensorShapeProto {2: Dim {1: size}, 3: unknown_rank}."""
    if field.shape is None:
        return wire.varint_field(3, 1)
    return b"".join(wire.length_field(2, wire.varint_field(1, size)) for size in field.shape)


def _entry(name: str, value: bytes) -> bytes:
    return wire.length_field(1, name.encode()) + wire.length_field(2, value)
