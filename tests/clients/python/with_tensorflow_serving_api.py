"""tensorflow-serving-api with TensorFlow's own tensors against the runtime."""

from __future__ import annotations

import os
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import checks
import grpc
import numpy as np
import tensorflow as tf
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

DTYPES = [
    *(tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.complex64, tf.complex128, tf.bool, tf.string),
    *(tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.uint32, tf.uint64),
    *(tf.qint8, tf.quint8, tf.qint16, tf.quint16, tf.qint32),
]


def _stub(target: str) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(target))


def _request(name: str = "", signature: str = "", **inputs: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for each, value in inputs.items():
        request.inputs[each].CopyFrom(value)
    return request


def _values(dtype: Any, count: int = 3) -> np.ndarray:
    if dtype == tf.string:
        return np.array(["añb", "", "x"][:count], dtype=object)
    return np.array([1, 0, 1][:count]).astype(dtype.as_numpy_dtype)


def _every(**replaced: Any) -> dict[str, Any]:
    made = {each.name: tf.make_tensor_proto(_values(each), dtype=each) for each in DTYPES}
    return {**made, **replaced}


def every_dtype_there_and_back(every: str) -> list[str]:
    answer = _stub(every).Predict(_request(**_every()), timeout=20)
    wrong = []
    for dtype in DTYPES:
        got, sent = tf.make_ndarray(answer.outputs[f"{dtype.name}_out"]), tf.make_ndarray(_every()[dtype.name])
        if not (got.dtype == sent.dtype and got.tolist() == sent.tolist()):
            wrong.append(f"{dtype.name}: {got!r}")
    return wrong


def one_value_for_a_shape(every: str) -> list[str]:
    """`make_tensor_proto(1, shape=[3])` sends one value for three, and no value at all for zeros."""
    wrong = []
    numeric = [dtype for dtype in DTYPES if dtype not in (tf.string,)]
    for dtype in numeric:
        for count in (0, 1):
            tensor = tf.make_tensor_proto(_values(dtype, 1)[0], dtype=dtype, shape=[3])
            if tensor.tensor_content:
                tensor.ClearField("tensor_content")
            if count == 0:
                field = next(each for each, _ in tensor.ListFields() if each.name.endswith("_val"))
                tensor.ClearField(field.name)
            expected = tf.make_ndarray(tensor).tolist()
            try:
                answer = _stub(every).Predict(_request(**_every(**{dtype.name: tensor})), timeout=20)
            except grpc.RpcError as error:
                wrong.append(f"{dtype.name}, {count} values: {error.code().name}: {error.details()}")
                continue
            got = tf.make_ndarray(answer.outputs[f"{dtype.name}_out"]).tolist()
            if got != expected:
                wrong.append(f"{dtype.name}, {count} values: {got} instead of {expected}")
    return wrong


def output_filter(every: str) -> list[str]:
    request = _request(**_every())
    request.output_filter.extend(["int8_out", "bool_out"])
    return sorted(_stub(every).Predict(request, timeout=20).outputs)


def model_spec(several: str) -> list[Any]:
    answer = _stub(several).Predict(_request("mine", "double", x=tf.make_tensor_proto([2], tf.int64)), timeout=20)
    return [answer.model_spec.name, answer.model_spec.signature_name]


def several_signatures(several: str) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name in ("double", "negate", "serving_default", "", "gone"):
        try:
            answer = _stub(several).Predict(_request("", name, x=tf.make_tensor_proto([2], tf.int64)), timeout=20)
            results[name] = tf.make_ndarray(answer.outputs["y"]).tolist()
        except grpc.RpcError as error:
            results[name] = [error.code().name, error.details()]
    return results


def metadata(several: str) -> dict[str, Any]:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "mine"
    answer = _stub(several).GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    return {
        name: {
            "inputs": {each: tf.dtypes.as_dtype(info.dtype).name for each, info in definition.inputs.items()},
            "outputs": {each: tf.dtypes.as_dtype(info.dtype).name for each, info in definition.outputs.items()},
        }
        for name, definition in signatures.signature_def.items()
    }


def status(several: str) -> list[Any]:
    stub = model_service_pb2_grpc.ModelServiceStub(grpc.insecure_channel(several))
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "mine"
    answer = stub.GetModelStatus(request, timeout=20)
    state = get_model_status_pb2.ModelVersionStatus.State
    return [state.Name(each.state) for each in answer.model_version_status]


def errors(moody: str) -> dict[str, Any]:
    results: dict[str, Any] = {}
    wanted = {
        "shape": tf.make_tensor_proto([[1]], tf.int64),
        "type": tf.make_tensor_proto([1.5], tf.float64),
        "model": tf.make_tensor_proto([-1], tf.int64),
    }
    for name, tensor in wanted.items():
        try:
            _stub(moody).Predict(_request(x=tensor), timeout=20)
        except grpc.RpcError as error:
            found = rpc_status.from_call(error)
            violations = []
            for detail in found.details if found else ():
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(bad):
                    violations += [each.field for each in bad.field_violations]
            results[name] = [error.code().name, violations]
    try:
        _stub(moody).Predict(_request(x=tf.make_tensor_proto([-3], tf.int64)), timeout=0.5)
    except grpc.RpcError as error:
        results["deadline"] = [error.code().name, []]
    return results


checks.run(
    every_dtype_there_and_back,
    one_value_for_a_shape,
    output_filter,
    model_spec,
    several_signatures,
    metadata,
    status,
    errors,
)
