"""What predictions may come in, as one table by gRPC path: each era of Hydrosphere's, and the Open Inference Protocol."""

from __future__ import annotations

from functools import partial
from typing import AbstractSet, Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from ..contract.types import DataType
from . import open_inference
from .decode import Request, decode_request, decode_response
from .encode import encode_request, encode_response
from .eras import ERAS, Era
from .tensor import Tensor

Tensors = Mapping[str, Tensor]


class Protocol(NamedTuple):
    """How predictions are asked for over one gRPC path. Errors are those of the functions' own modules."""

    name: str
    service: str  # the full name, as in reflection and health
    path: str  # of the call that predicts
    message: str  # what a request is called
    decode_request: Callable[[Any], Any]  # bytes to something with `inputs` and `signature_name`
    encode_request: Callable[[Tensors, str], bytes]  # of inputs and a signature's name
    encode_response: Callable[[Any, Tensors], bytes]  # to a decoded request
    decode_response: Callable[[Any], Dict[str, Tensor]]
    names_signatures: bool = True  # whether a request can name the signature it means
    status: Optional[str] = None  # the path of the Status call that v2's managers ask
    types: Optional[AbstractSet[DataType]] = None  # those that it can carry; None: all
    wanted: Callable[[Any], Tuple[str, ...]] = (
        lambda _request: ()
    )  # the outputs that a decoded request asks for; none: all

    def can_carry(self, dtype: DataType) -> bool:
        return self.types is None or dtype in self.types or dtype is DataType.ANY


def _of_era(era: Era) -> Protocol:
    return Protocol(
        era.name,
        era.service,
        era.predict,
        "PredictRequest",
        partial(decode_request, era),
        lambda inputs, signature: encode_request(era, Request(dict(inputs), signature)),
        lambda _request, outputs: encode_response(era, outputs),
        partial(decode_response, era),
        bool(era.model_spec),
        era.status,
    )


_OPEN_INFERENCE = Protocol(
    "open-inference",
    open_inference.SERVICE,
    open_inference.MODEL_INFER,
    "ModelInferRequest",
    open_inference.decode_request,
    lambda inputs, signature: open_inference.encode_request(open_inference.InferRequest(dict(inputs), signature)),
    open_inference.encode_response,
    open_inference.decode_response,
    types=open_inference.DATATYPES.keys(),
    wanted=lambda request: request.outputs,
)

PROTOCOLS: Dict[str, Protocol] = {
    protocol.name: protocol for protocol in (*map(_of_era, ERAS.values()), _OPEN_INFERENCE)
}
PROTOCOL_BY_PATH: Dict[str, Protocol] = {protocol.path: protocol for protocol in PROTOCOLS.values()}
