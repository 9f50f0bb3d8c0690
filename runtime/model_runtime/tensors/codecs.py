"""The messages of each protocol, read and written: for whoever knows tensors and not whose bytes they are."""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Dict, Mapping, NamedTuple, Sequence, Tuple

from ..errors import Violation
from ..protocols import ERAS, MODEL_VERSION, PROTOCOLS, Era, Protocol
from . import open_inference
from .decode import Request, decode_request, decode_response
from .encode import encode_request, encode_response
from .tensor import Tensor

Tensors = Mapping[str, Tensor]


class Codec(NamedTuple):
    """How one protocol's messages are read and written. Errors are those of the functions' own modules."""

    protocol: Protocol
    decode_request: Callable[[Any], Any]  # bytes to something with `inputs` and `signature_name`
    encode_request: Callable[[Tensors, str], bytes]  # of inputs and a signature's name
    encode_response: Callable[[Any, Tensors, str], bytes]  # to a decoded request, by the signature of that name
    decode_response: Callable[[Any], Dict[str, Tensor]]
    wanted: Callable[[Any], Tuple[str, ...]]  # the outputs that a decoded request asks for; none: all
    refused: Callable[[Any], Sequence[Violation]] = lambda _request: ()  # what it asks for and nobody can give


def _of_era(era: Era) -> Codec:
    return Codec(
        PROTOCOLS[era.name],
        partial(decode_request, era),
        lambda inputs, signature: encode_request(era, Request(dict(inputs), signature)),
        lambda request, outputs, signature: encode_response(era, outputs, _answered(request, signature)),
        partial(decode_response, era),
        lambda request: request.outputs,
    )


def _answered(request: Request, signature: str) -> Request:
    """The request as its answer repeats it."""
    version = MODEL_VERSION if request.model_version is None else request.model_version
    return request._replace(signature_name=signature, model_version=version)


_OPEN_INFERENCE = Codec(
    PROTOCOLS["open-inference"],
    open_inference.decode_request,
    lambda inputs, signature: open_inference.encode_request(open_inference.InferRequest(dict(inputs), signature)),
    lambda request, outputs, _signature: open_inference.encode_response(request, outputs),
    open_inference.decode_response,
    lambda request: request.outputs,
    lambda request: request.refused,
)

CODECS: Dict[str, Codec] = {codec.protocol.name: codec for codec in (*map(_of_era, ERAS.values()), _OPEN_INFERENCE)}
CODEC_BY_PATH: Dict[str, Codec] = {codec.protocol.path: codec for codec in CODECS.values()}
