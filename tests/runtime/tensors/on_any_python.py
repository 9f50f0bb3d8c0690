"""Reads a corpus of requests and prints what it read, on whatever Python and numpy a model brought (3.8 and 1.19 at least).

python on_any_python.py CORPUS      CORPUS: lines of `protocol hex-of-the-request`
"""

import hashlib
import sys

import numpy as np

from model_runtime import tensors, wire
from model_runtime.contract.types import DataType


def digest(name, data):
    """What came of one request, in words that are the same on every Python and numpy."""
    codec = tensors.CODECS[name]
    try:
        request = codec.decode_request(data)
    except (wire.WireError, tensors.TensorError) as error:
        return str(error)
    parts = [request[1:]]
    for field, tensor in request.inputs.items():
        parts.append((field, int(tensor.dtype), tensor.shape, tensor.problem, _plain(tensor.values), _array(tensor)))
    try:
        parts.append(codec.encode_response(request, request.inputs, "signature"))
    except (tensors.TensorError, KeyError) as error:  # a KeyError: an output is asked for that is none of the inputs
        parts.append(str(error))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _plain(values):
    plain = values.tolist()
    return repr([sorted(one) if isinstance(one, dict) else one for one in plain] if isinstance(plain, list) else plain)


def _array(tensor):
    """The array, its text, and its values converted to another type; or what was wrong with it."""
    try:
        array = tensors.array(tensor, (-1, 2), writable=True)
        found = [array.shape, str(array.dtype)]
        if tensor.dtype == DataType.STRING:
            array = tensors.text(array)
            found.append(_plain(array))
        if tensor.dtype != DataType.MAP:
            found += [
                _conversion(array, wanted) for wanted in (DataType.INT8, DataType.FLOAT, DataType.HALF, DataType.UINT64)
            ]
            found.append(_plain(tensors.tensor(array, tensor.dtype).values))
        return repr(found)
    except tensors.TensorError as error:
        return str(error)


def _conversion(array, dtype):
    try:
        return _plain(tensors.tensor(array, dtype).values)
    except tensors.TensorError:
        return "refused"


def main():
    with open(sys.argv[1]) as corpus:
        for line in corpus:
            name, data = line.rstrip("\n").split(" ")
            print(digest(name, bytes.fromhex(data)))
    assert tensors.tensor([1, 2], DataType.INT32).values.dtype == np.dtype("<i4")
    assert tensors.dtype_of(np.arange(3)) is DataType.INT64


if __name__ == "__main__":
    main()
