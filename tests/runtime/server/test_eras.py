"""Every era's clients on one port, with messages of that era made by protobuf itself."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2

from model_runtime import protos

ADD = {
    "name": "add",
    "inputs": {"a": {"shape": "scalar", "type": "int32"}, "b": {"shape": [-1, 2], "type": "int32"}},
    "outputs": {"sum": {"shape": [-1, 2], "type": "int32"}},
}
CODE = "def add(a, b):\n    return {'sum': a + b}\n"
TF = "hydrosphere.tensorflow"
V3 = "hydrosphere.serving"


def unary(client: Any, path: str, request: Any, response: Any) -> Any:
    call = client.channel.unary_unary(
        path, request_serializer=lambda message: message.SerializeToString(), response_deserializer=response.FromString
    )
    return call(request, timeout=10)


@pytest.mark.parametrize(
    ("era", "path"),
    [
        ("v0.0.5", "/hydrosphere.tensorflow.serving.PredictionService/Predict"),
        ("v0", "/tensorflow.serving.PredictionService/Predict"),
        ("v2", "/tensorflow.serving.PredictionService/Predict"),
    ],
)
def test_clients_before_v3_are_answered(serve: Any, era: str, path: str) -> None:
    client = serve(CODE, ADD)
    request = protos.message(era, f"{TF}.serving.PredictRequest")()
    request.model_spec.signature_name = "add"
    request.inputs["a"].dtype = 3
    request.inputs["a"].tensor_shape.SetInParent()
    request.inputs["a"].int_val.append(10)
    request.inputs["b"].dtype = 3
    for size in (2, 2):
        request.inputs["b"].tensor_shape.dim.add(size=size)
    request.inputs["b"].int_val.extend([1, 2, 3, -4])

    answer = unary(client, path, request, protos.message(era, f"{TF}.serving.PredictResponse"))

    assert list(answer.outputs["sum"].int_val) == [11, 12, 13, 6]
    assert [dim.size for dim in answer.outputs["sum"].tensor_shape.dim] == [2, 2]
    assert answer.outputs["sum"].dtype == 3


def test_clients_of_v3_are_answered(serve: Any) -> None:
    client = serve(CODE, ADD, era="v3")
    request = protos.message("v3", f"{V3}.runtime.PredictRequest")()
    request.inputs["a"].dtype = 3
    request.inputs["a"].tensor_shape.SetInParent()
    request.inputs["a"].int_val.append(10)
    request.inputs["b"].dtype = 3
    request.inputs["b"].tensor_shape.dims.extend([-1, 2])  # the gateway sends the contract's shape as it stands
    request.inputs["b"].int_val.extend([1, 2, 3, 4])

    path = "/hydrosphere.serving.runtime.PredictionService/Predict"
    answer = unary(client, path, request, protos.message("v3", f"{V3}.runtime.PredictResponse"))

    assert list(answer.outputs["sum"].int_val) == [11, 12, 13, 14]
    assert list(answer.outputs["sum"].tensor_shape.dims) == [2, 2]


def test_tensor_content_as_tensorflow_clients_send_it_is_read(serve: Any) -> None:
    client = serve(CODE, ADD)
    request = protos.message("v2", f"{TF}.serving.PredictRequest")()
    request.inputs["a"].dtype = 3
    request.inputs["a"].tensor_shape.SetInParent()
    request.inputs["a"].int_val.append(1)
    request.inputs["b"].dtype = 3
    request.inputs["b"].tensor_shape.dim.add(size=1)
    request.inputs["b"].tensor_shape.dim.add(size=2)
    request.inputs["b"].tensor_content = (5).to_bytes(4, "little") + (6).to_bytes(4, "little")

    path = "/tensorflow.serving.PredictionService/Predict"
    answer = unary(client, path, request, protos.message("v2", f"{TF}.serving.PredictResponse"))

    assert list(answer.outputs["sum"].int_val) == [6, 7]
    assert answer.outputs["sum"].tensor_content == b""


def test_status_tells_the_manager_that_the_model_serves(serve: Any) -> None:
    client = serve(CODE, ADD)
    response = protos.message("v2", "tensorflow.serving.StatusResponse")

    answer = unary(client, "/tensorflow.serving.PredictionService/Status", empty_pb2.Empty(), response)

    assert (answer.status, answer.message) == (1, "ok")


def test_a_request_of_another_era_is_refused_and_not_guessed_at(serve: Any) -> None:
    client = serve(CODE, ADD)
    request = protos.message("v3", f"{V3}.runtime.PredictRequest")()
    request.inputs["a"].dtype = 3

    with pytest.raises(grpc.RpcError) as failure:
        unary(
            client,
            "/tensorflow.serving.PredictionService/Predict",
            request,
            protos.message("v2", f"{TF}.serving.PredictResponse"),
        )

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


TWO = {
    "plus": {"inputs": {"x": {"shape": [-1], "type": "int64"}}, "outputs": {"y": {"shape": [-1], "type": "int64"}}},
    "minus": {"inputs": {"x": {"shape": [-1], "type": "int64"}}, "outputs": {"y": {"shape": [-1], "type": "int64"}}},
}
TWO_CODE = "def plus(x):\n    return {'y': x + 1}\n\ndef minus(x):\n    return {'y': x - 1}\n"


@pytest.mark.parametrize(("name", "expected"), [("plus", [6]), ("minus", [4])])
def test_with_many_signatures_the_request_names_the_one_it_means(serve: Any, name: str, expected: list[int]) -> None:
    client = serve(TWO_CODE, TWO, era="v0")

    answer = client.predict(int64_input([5]), signature=name)

    assert answer["y"].tolist() == expected


def test_a_signature_that_is_not_there_is_named(serve: Any) -> None:
    client = serve(TWO_CODE, TWO, era="v0")

    with pytest.raises(grpc.RpcError, match="'times' signature is not present in the model") as failure:
        client.predict(int64_input([5]), signature="times")

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected one of plus, minus, got 'times'" in failure.value.details()


def test_with_one_signature_tensorflows_default_means_it(serve: Any) -> None:
    client = serve(TWO_CODE, {"name": "plus", **TWO["plus"]})

    assert client.predict(int64_input([5]), signature="serving_default")["y"].tolist() == [6]


def int64_input(values: list[int]) -> dict[str, Any]:
    from model_runtime import tensors
    from model_runtime.contract import DataType

    return {"x": tensors.tensor(values, DataType.INT64)}
