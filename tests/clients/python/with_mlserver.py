"""MLServer's own stubs and codecs of the Open Inference Protocol against the runtime."""

from __future__ import annotations

from typing import Any

import checks
import grpc
import numpy as np
from grpc_status import rpc_status
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.grpc import converters, dataplane_pb2
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import InferenceRequest

ANY = "any"


def _stub(target: str) -> GRPCInferenceServiceStub:
    return GRPCInferenceServiceStub(grpc.insecure_channel(target))


def _request(*inputs: Any, raw: bool = False) -> Any:
    return converters.ModelInferRequestConverter.from_types(
        InferenceRequest(inputs=list(inputs)), model_name=ANY, use_raw=raw
    )


def health(columns: str) -> list[bool]:
    stub = _stub(columns)
    return [
        stub.ServerLive(dataplane_pb2.ServerLiveRequest()).live,
        stub.ServerReady(dataplane_pb2.ServerReadyRequest()).ready,
        stub.ModelReady(dataplane_pb2.ModelReadyRequest(name=ANY)).ready,
    ]


def metadata(columns: str) -> list[Any]:
    model = _stub(columns).ModelMetadata(dataplane_pb2.ModelMetadataRequest(name=ANY))
    return sorted([each.name, each.datatype, list(each.shape)] for each in model.inputs)


def _both(texts: list[str]) -> list[Any]:
    numbers = NumpyCodec.encode_input("n", np.array([[20], [21]]))
    return [numbers, StringCodec.encode_input("t", texts, use_bytes=True)]


def predictions(columns: str) -> list[Any]:
    """Values as numbers in `contents`, and as raw bytes."""
    results = []
    for raw in (False, True):
        answer = _stub(columns).ModelInfer(_request(*_both(["añb", ""]), raw=raw))
        outputs = {each.name: each for each in converters.ModelInferResponseConverter.to_types(answer).outputs}
        results.append([NumpyCodec.decode_output(outputs["n"]).tolist(), list(StringCodec.decode_output(outputs["t"]))])
    return results


def errors(columns: str) -> dict[str, Any]:
    try:
        _stub(columns).ModelInfer(_request(NumpyCodec.encode_input("n", np.array([1.5]))))
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        return {
            "code": error.code().name,
            "details": sorted(each.type_url.rpartition("/")[2] for each in status.details),
        }
    return {"code": "OK"}


checks.run(health, metadata, predictions, errors)
