"""What predictions may be asked in, as tables: the eras of Hydrosphere's wire protocol, and the Open Inference Protocol.

A protocol is chosen by the gRPC path, never guessed from bytes: the messages of one era parse as another's without an error, into
nonsense. Standard library only, no bytes: the server knows its protocols by this, and leaves their messages to the model's side.
"""

from __future__ import annotations

from typing import AbstractSet, Dict, NamedTuple, Optional, Tuple

from .contract.types import DataType

MODEL_VERSION = 1
"""What a port calls the version of its model where a request names none. It has one model, under any name and version."""


class Era(NamedTuple):
    """Where the Predict messages of one era differ from the others'."""

    name: str
    service: str  # the full name, as in reflection and health
    inputs: int  # the number of PredictRequest's `inputs`; PredictResponse's `outputs` is 1 in every era
    model_spec: Tuple[int, ...]  # the fields of PredictRequest's field 1 {1: name, 2: version, 3: signature_name}
    nested_dims: bool  # TensorShapeProto {2: Dim {1: size}, 3: unknown_rank}, else TensorShape {1: packed dims}
    has_variants: bool  # TensorProto's field 15
    plain_maps: bool  # map_val is one map<string, TensorProto>, else repeated MapTensorData {1: such a map}
    is_tensorflows: (
        bool  # PredictRequest {3: repeated output_filter}, and values that may be left out, as TensorFlow's may
    )
    answers_spec: bool = False  # PredictResponse {2: ModelSpec}, as TensorFlow Serving's
    status: Optional[str] = None  # the path of the Status call that v2's managers ask

    @property
    def predict(self) -> str:
        """The gRPC path of Predict."""
        return f"/{self.service}/Predict"


_TENSORFLOW = "tensorflow.serving.PredictionService"

ERAS: Dict[str, Era] = {
    era.name: era
    for era in (
        Era("0.0.5", f"hydrosphere.{_TENSORFLOW}", 2, (3,), True, True, True, True),
        Era(
            "v2", _TENSORFLOW, 2, (1, 2, 3), True, True, False, True, True, status=f"/{_TENSORFLOW}/Status"
        ),  # v0's too
        Era("v3", "hydrosphere.serving.runtime.PredictionService", 1, (), False, False, False, False),
    )
}

# The Open Inference Protocol, KServe's v2: https://github.com/kserve/open-inference-protocol
OPEN_INFERENCE = "inference.GRPCInferenceService"
DATATYPES: Dict[DataType, str] = {
    DataType.BOOL: "BOOL",
    DataType.UINT8: "UINT8",
    DataType.UINT16: "UINT16",
    DataType.UINT32: "UINT32",
    DataType.UINT64: "UINT64",
    DataType.INT8: "INT8",
    DataType.INT16: "INT16",
    DataType.INT32: "INT32",
    DataType.INT64: "INT64",
    DataType.HALF: "FP16",
    DataType.BFLOAT16: "BF16",
    DataType.FLOAT: "FP32",
    DataType.DOUBLE: "FP64",
    DataType.STRING: "BYTES",
}
"""What it calls the types that it can carry."""


class Protocol(NamedTuple):
    """What a prediction is asked in, over one gRPC path."""

    name: str
    service: str  # the full name, as in reflection and health
    path: str  # of the call that predicts
    message: str  # what a request is called
    signature_path: str = "model_spec.signature_name"  # where a request names the signature it means; "": nowhere
    names_in_path: bool = False  # whether a model's name may end in /SIGNATURE
    status: Optional[str] = None  # the path of the Status call that v2's managers ask
    types: Optional[AbstractSet[DataType]] = None  # those that it can carry; None: all

    def can_carry(self, dtype: DataType) -> bool:
        """Whether values of that type can be told; of ANY that is not known before."""
        return self.types is None or dtype in self.types or dtype is DataType.ANY


def _of_era(era: Era) -> Protocol:
    path = Protocol._field_defaults["signature_path"] if era.model_spec else ""
    return Protocol(era.name, era.service, era.predict, "PredictRequest", path, status=era.status)


_OPEN_INFERENCE = Protocol(
    "open-inference",
    OPEN_INFERENCE,
    f"/{OPEN_INFERENCE}/ModelInfer",
    "ModelInferRequest",
    "parameters.signature_name",
    names_in_path=True,
    types=DATATYPES.keys(),
)
PROTOCOLS: Dict[str, Protocol] = {
    protocol.name: protocol for protocol in (*map(_of_era, ERAS.values()), _OPEN_INFERENCE)
}
PROTOCOL_BY_PATH: Dict[str, Protocol] = {protocol.path: protocol for protocol in PROTOCOLS.values()}
