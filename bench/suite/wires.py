"""How each kind of server is spoken to: arrays to the bytes of a request, and the bytes of an answer to the array it holds."""

from __future__ import annotations

import json
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from model_runtime import protos, tensors

from .work import Array, Arrays

HERE = Path(__file__).parent
V2 = tensors.ERAS["v2"]


class Wire(ABC):
    """`protocol` and `method` are what the load driver needs to know."""

    protocol = "grpc"
    method = ""

    @abstractmethod
    def request(self, inputs: Arrays) -> bytes: ...

    @abstractmethod
    def answer(self, data: bytes, dtype: str) -> Array: ...


class Predict(Wire):
    """Hydrosphere's and TensorFlow Serving's PredictRequest, typed fields."""

    method = "/tensorflow.serving.PredictionService/Predict"

    def request(self, inputs: Arrays) -> bytes:
        sent = {name: tensors.tensor(_text(value)) for name, value in inputs.items()}
        return tensors.encode_request(V2, tensors.Request(sent))

    def answer(self, data: bytes, dtype: str) -> Array:
        found = tensors.decode_response(V2, data)["y"]
        return np.asarray(tensors.array(found)).reshape(found.shape)


class OpenInference(Wire):
    """KServe's v2 over gRPC; `raw` as Triton's clients send it, else typed contents."""

    method = "/inference.GRPCInferenceService/ModelInfer"
    _FIELDS: Mapping[str, tuple[str, str]] = {
        "float32": ("FP32", "fp32_contents"),
        "float64": ("FP64", "fp64_contents"),
        "int64": ("INT64", "int64_contents"),
    }

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw

    def request(self, inputs: Arrays) -> bytes:
        # With an id of its own, because servers make up another for each answer where there is none.
        made = _infer("ModelInferRequest")(model_name="model", id="1")
        for name, value in inputs.items():
            datatype, contents = self._FIELDS[value.dtype.name]
            tensor = made.inputs.add(name=name, datatype=datatype, shape=value.shape)
            if self._raw:
                made.raw_input_contents.append(value.tobytes())
            else:
                getattr(tensor.contents, contents).extend(value.ravel().tolist())
        return bytes(made.SerializeToString())

    def answer(self, data: bytes, dtype: str) -> Array:
        made = _infer("ModelInferResponse").FromString(data)
        [output] = made.outputs
        kind = next(name for name, (datatype, _) in self._FIELDS.items() if datatype == output.datatype)
        if made.raw_output_contents:
            return np.frombuffer(made.raw_output_contents[0], kind).reshape(output.shape)
        return np.array(getattr(output.contents, self._FIELDS[kind][1]), kind).reshape(output.shape)


class Seldon(Wire):
    """Seldon's v1 SeldonMessage: doubles only."""

    method = "/seldon.protos.Model/Predict"

    def request(self, inputs: Arrays) -> bytes:
        made = message("SeldonMessage")()
        made.data.tensor.shape.extend(inputs["x"].shape)
        made.data.tensor.values.extend(inputs["x"].ravel().tolist())
        return bytes(made.SerializeToString())

    def answer(self, data: bytes, dtype: str) -> Array:
        tensor = message("SeldonMessage").FromString(data).data.tensor
        return np.array(tensor.values, dtype).reshape(tensor.shape)


class Row(Wire):
    """`row.proto`."""

    method = "/bench.RowService/Predict"

    def request(self, inputs: Arrays) -> bytes:
        value = inputs["x"]
        return bytes(
            message("Row", "row.proto")(values=value.ravel().tolist(), dtype=value.dtype.name).SerializeToString()
        )

    def answer(self, data: bytes, dtype: str) -> Array:
        return np.array([message("Row", "row.proto").FromString(data).values], dtype)


class Json(Wire):
    """{"x": [[…]]} over HTTP."""

    protocol, method = "http", "/predict"

    def request(self, inputs: Arrays) -> bytes:
        return json.dumps({name: value.tolist() for name, value in inputs.items()}).encode()

    def answer(self, data: bytes, dtype: str) -> Array:
        return np.array(json.loads(data)["y"], dtype)


def _infer(name: str) -> Any:
    return protos.message("open_inference", f"inference.{name}")


def _text(value: Array) -> Any:
    return value.astype(object) if value.dtype.kind == "U" else value


@cache
def message(name: str, file: str = "seldon.proto") -> Any:
    """A message class of one of the protos here, in a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_descriptor(file))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"bench.{name}"))


@cache
def _descriptor(file: str) -> descriptor_pb2.FileDescriptorProto:
    with tempfile.NamedTemporaryFile() as made:
        _protoc(f"--descriptor_set_out={made.name}", file)
        return descriptor_pb2.FileDescriptorSet.FromString(Path(made.name).read_bytes()).file[0]


def row_stubs(folder: Path) -> None:
    """Python stubs of row.proto."""
    _protoc(f"--python_out={folder}", f"--grpc_python_out={folder}", "row.proto")


def _protoc(*arguments: str) -> None:
    if protoc.main(["protoc", f"-I{HERE}", *arguments]):
        sys.exit(f"protoc {' '.join(arguments)} failed")
