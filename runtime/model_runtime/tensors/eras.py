"""The eras of Hydrosphere's wire protocol as one table. An era is chosen by the gRPC path, never guessed from bytes:
the messages of one era parse as another's without an error, into nonsense.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple


class Era(NamedTuple):
    """Where the Predict messages of one era differ from the others'."""

    name: str
    service: str  # the full name, as in reflection and health
    inputs: int  # the number of PredictRequest's `inputs`; PredictResponse's `outputs` is 1 in every era
    model_spec: Tuple[int, ...]  # the fields of PredictRequest's field 1 {1: name, 2: version, 3: signature_name}
    nested_dims: bool  # TensorShapeProto {2: Dim {1: size}, 3: unknown_rank}, else TensorShape {1: packed dims}
    has_variants: bool  # TensorProto's field 15
    plain_maps: bool  # map_val is one map<string, TensorProto>, else repeated MapTensorData {1: such a map}
    has_output_filter: bool  # PredictRequest's field 3, repeated string
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
        Era("v2", _TENSORFLOW, 2, (1, 2, 3), True, True, False, False, status=f"/{_TENSORFLOW}/Status"),  # v0's too
        Era("v3", "hydrosphere.serving.runtime.PredictionService", 1, (), False, False, False, False),
    )
}
