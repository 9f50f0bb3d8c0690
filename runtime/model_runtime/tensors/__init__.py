"""Tensors: the messages of every prediction protocol to numpy and back, without protobuf.

    decode_request(era, data)  ->  Request of Tensors  ->  array(tensor, dims), text(array)     what a model receives
    encode_response(era, outputs)  <-  Tensors  <-  tensor(value, dtype), map_tensor(...)        what it returned

`CODECS` has the outer two of each line for every protocol, the Open Inference Protocol (`open_inference`) among them.

Here belong the wire forms of tensors and the conversion of single values. What never belongs here: gRPC, signatures (a contract's
field says dtype and dims, `prediction` hands them in), the user's code. Standard library and numpy only, Python 3.8.
Errors: `wire.WireError` for bytes that are no message, `TensorError` for a tensor or value that cannot be what it must be.
"""

from ..protocols import ERAS, Era
from .arrays import array, omitted_bytes, text
from .codecs import CODEC_BY_PATH, CODECS, Codec
from .convert import dtype_of, map_tensor, mappings, tensor
from .decode import Request, decode_request, decode_response
from .encode import encode_request, encode_response
from .tensor import Tensor, TensorError

__all__ = [
    "CODECS",
    "CODEC_BY_PATH",
    "ERAS",
    "Codec",
    "Era",
    "Request",
    "Tensor",
    "TensorError",
    "array",
    "decode_request",
    "decode_response",
    "dtype_of",
    "encode_request",
    "encode_response",
    "map_tensor",
    "mappings",
    "omitted_bytes",
    "tensor",
    "text",
]
