"""TensorFlow Serving's semantics on its path: omitted values, output_filter, model_spec, signatures, metadata, status."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from model_runtime import protos
from model_runtime.client import violations

SERVICE = "tensorflow.serving.PredictionService"
ADD = {
    "name": "add",
    "inputs": {"x": {"shape": [-1, -1], "type": "double"}},
    "outputs": {"sum": {"shape": "scalar", "type": "double"}, "rows": {"shape": "scalar", "type": "int64"}},
}
CODE = "def add(x):\n    x += 0\n    return {'sum': x.sum(), 'rows': len(x)}\n"


def side(name: str, kind: str) -> dict[str, Any]:
    return {name: {"shape": [-1], "type": kind}}


SEVERAL = {
    "negate": {"inputs": side("x", "int64"), "outputs": side("y", "int64")},
    "serving_default": {"inputs": side("x", "int64"), "outputs": side("y", "int64")},
}
SEVERAL_CODE = "def negate(x):\n    return {'y': -x}\ndef serving_default(x):\n    return {'y': x}\n"


def message(name: str) -> Any:
    return protos.message("served", name)


def predict_request(shape: list[int], values: list[float], **spec: Any) -> Any:
    request = message("hydrosphere.tensorflow.serving.PredictRequest")()
    request.inputs["x"].dtype = 2
    request.inputs["x"].tensor_shape.SetInParent()
    for size in shape:
        request.inputs["x"].tensor_shape.dim.add(size=size)
    request.inputs["x"].double_val.extend(values)
    for name, value in spec.items():
        setattr(request.model_spec, name, value)
    return request


def signed(signature: str) -> Any:
    request = message("hydrosphere.tensorflow.serving.PredictRequest")()
    request.model_spec.signature_name = signature
    request.inputs["x"].dtype = 9
    request.inputs["x"].tensor_shape.dim.add(size=1)
    request.inputs["x"].int64_val.append(5)
    return request


def ask(
    client: Any, request: Any, response: str = "hydrosphere.tensorflow.serving.PredictResponse", path: str = ""
) -> Any:
    call = client.channel.unary_unary(
        path or f"/{SERVICE}/Predict", lambda sent: sent.SerializeToString(), message(response).FromString
    )
    return call(request, timeout=20)


def refused(client: Any, request: Any, **more: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as failure:
        ask(client, request, **more)
    return failure.value


@pytest.mark.parametrize(("values", "total"), [([2.0], 12.0), ([], 0.0), ([1.0, 3.0], 16.0)])
def test_values_that_are_left_out_are_supplied(serve: Any, values: list[float], total: float) -> None:
    answer = ask(serve(CODE, ADD), predict_request([2, 3], values))

    assert list(answer.outputs["sum"].double_val) == [total]


@pytest.mark.parametrize("size", [1024, 10**12, 2**62])
def test_more_values_than_a_message_may_have_are_not_supplied(serve: Any, size: int) -> None:
    client = serve(CODE, ADD, max_message_bytes=8000)

    failure = refused(client, predict_request([size, 1], [2.0]))

    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.path for violation in violations(failure)] == ["inputs.x"]
    assert "MAX_MESSAGE_BYTES" in failure.details()
    assert list(ask(client, predict_request([10, 3], [2.0])).outputs["sum"].double_val) == [60]


def test_the_filter_chooses_the_outputs(serve: Any) -> None:
    client = serve(CODE, ADD)
    request = predict_request([1, 1], [2.0])
    request.output_filter.extend(["rows", "rows"])

    assert list(ask(client, request).outputs) == ["rows"]

    request.output_filter.append("gone")
    failure = refused(client, request)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(map(str, violations(failure))) == ["outputs.gone: not in the contract, expected sum, rows"]


def test_the_answer_names_the_model_that_gave_it(serve: Any) -> None:
    client = serve(CODE, ADD)

    spec = ask(client, predict_request([1, 1], [2.0], name="mine")).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("mine", 1, "add")

    request = predict_request([1, 1], [2.0])
    request.model_spec.version.value = 7  # as Hydrosphere's gateways name theirs
    assert ask(client, request).model_spec.version.value == 7


@pytest.mark.parametrize("name", ["", "serving_default", "add"])
def test_a_single_signature_is_meant_by_its_name_and_by_none(serve: Any, name: str) -> None:
    assert ask(serve(CODE, ADD), predict_request([1, 1], [2.0], signature_name=name)).outputs


def test_a_wrong_signature_is_refused_where_there_is_one(serve: Any) -> None:
    failure = refused(serve(CODE, ADD), predict_request([1, 1], [2.0], signature_name="subtract"))

    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(map(str, violations(failure))) == ["model_spec.signature_name: expected one of add, got 'subtract'"]


@pytest.mark.parametrize(("name", "value"), [("negate", -5), ("serving_default", 5), ("", 5)])
def test_the_default_is_meant_by_no_name_where_there_are_several(serve: Any, name: str, value: int) -> None:
    answer = ask(serve(SEVERAL_CODE, SEVERAL, era="v0"), signed(name))

    assert list(answer.outputs["y"].int64_val) == [value]
    assert answer.model_spec.signature_name == (name or "serving_default")


def test_the_metadata_holds_every_signature(serve: Any) -> None:
    client = serve(SEVERAL_CODE, SEVERAL, era="v0")
    request = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=["signature_def"])
    request.model_spec.name = "mine"

    answer = ask(client, request, "tensorflow.serving.GetModelMetadataResponse", f"/{SERVICE}/GetModelMetadata")

    found = message("tensorflow.serving.SignatureDefMap")()
    assert answer.metadata["signature_def"].Unpack(found)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("mine", 1)
    assert sorted(found.signature_def) == ["negate", "serving_default"]
    definition = found.signature_def["negate"]
    assert (definition.inputs["x"].dtype, [dim.size for dim in definition.inputs["x"].tensor_shape.dim]) == (9, [-1])
    assert (list(definition.outputs), definition.method_name) == (["y"], "tensorflow/serving/predict")


@pytest.mark.parametrize("fields", [[], ["graph"], ["signature_def", "graph"]])
def test_other_metadata_is_refused(serve: Any, fields: list[str]) -> None:
    request = message("tensorflow.serving.GetModelMetadataRequest")(metadata_field=fields)
    response = "tensorflow.serving.GetModelMetadataResponse"

    failure = refused(serve(CODE, ADD), request, response=response, path=f"/{SERVICE}/GetModelMetadata")

    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "metadata_field: expected signature_def, got " in failure.details()


def model_status(client: Any, **spec: Any) -> Any:
    request = message("tensorflow.serving.GetModelStatusRequest")()
    request.model_spec.name = "mine"
    for name, value in spec.items():
        getattr(request.model_spec, name).value = value
    path = "/tensorflow.serving.ModelService/GetModelStatus"
    [found] = ask(client, request, "tensorflow.serving.GetModelStatusResponse", path).model_version_status
    return found


def test_the_status_is_that_of_the_model(serve: Any) -> None:
    client = serve(CODE, ADD)

    assert (model_status(client).version, model_status(client).state) == (1, 30)
    assert model_status(client, version=7).version == 7


def test_the_status_says_why_a_model_cannot_serve(serve: Any) -> None:
    found = model_status(serve("raise ValueError('no weights')\n", ADD))

    assert (found.state, found.status.error_code) == (50, 14)
    assert "no weights" in found.status.error_message


@pytest.mark.parametrize("method", ["Classify", "Regress", "MultiInference"])
def test_methods_of_graphs_are_refused_with_a_reason(serve: Any, method: str) -> None:
    failure = refused(serve(CODE, ADD), predict_request([], [1.0]), path=f"/{SERVICE}/{method}")

    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
    assert f"{method} takes tf.Example" in failure.details()
