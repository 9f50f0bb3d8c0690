"""NVIDIA's tritonclient[grpc] (KServe's v2) against the runtime."""

from __future__ import annotations

import queue
from typing import Any

import checks
import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

ANY = "any"  # a port has one model, under whatever name it is asked for
VALUES: dict[str, Any] = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([1.5, -0.25], np.float16),
    "BF16": np.array([1.5, -0.25], ml_dtypes.bfloat16),
    "FP32": np.array([1.5, np.inf], np.float32),
    "FP64": np.array([1e300, -0.0], np.float64),
    "BYTES": np.array(["añb", ""], dtype=object),
}


def _inputs(values: dict[str, Any], datatypes: dict[str, str]) -> list[Any]:
    made = []
    for name, value in values.items():
        tensor = triton.InferInput(name, list(value.shape), datatypes[name])
        tensor.set_data_from_numpy(value)
        made.append(tensor)
    return made


def _every(client: Any, **options: Any) -> Any:
    return client.infer(ANY, _inputs(VALUES, {name: name for name in VALUES}), **options)


def _moody(client: Any, value: int, **options: Any) -> Any:
    return client.infer(ANY, _inputs({"x": np.array([value])}, {"x": "INT64"}), **options)


def health(oip: str) -> list[bool]:
    client = triton.InferenceServerClient(oip)
    return [client.is_server_live(), client.is_server_ready(), client.is_model_ready(ANY)]


def metadata(oip: str) -> dict[str, Any]:
    client = triton.InferenceServerClient(oip)
    model = client.get_model_metadata(ANY)
    inputs = {each.name: [each.datatype, list(each.shape)] for each in model.inputs}
    return {
        "server": client.get_server_metadata().name,
        "inputs": inputs,
        "outputs": [each.name for each in model.outputs],
    }


def every_datatype_there_and_back(oip: str) -> list[str]:
    answer = _every(triton.InferenceServerClient(oip))
    got = {name: answer.as_numpy(f"{name}_out") for name in VALUES}
    got["BYTES"] = np.array([each.decode() for each in got["BYTES"]], dtype=object)
    return [name for name, value in VALUES.items() if not np.array_equal(np.asarray(got[name], value.dtype), value)]


def gzip_is_answered(oip: str) -> list[bool]:
    answer = _every(triton.InferenceServerClient(oip), compression_algorithm="gzip")
    return answer.as_numpy("BOOL_out").tolist()


def outputs_on_request(oip: str) -> list[str]:
    answer = _every(triton.InferenceServerClient(oip), outputs=[triton.InferRequestedOutput("FP32_out")])
    return [output.name for output in answer.get_response().outputs]


def asynchronous(moody: str) -> list[int]:
    answers: queue.Queue[Any] = queue.Queue()
    client = triton.InferenceServerClient(moody)
    for value in range(20):
        client.async_infer(
            ANY,
            _inputs({"x": np.array([value])}, {"x": "INT64"}),
            lambda result, error: answers.put(error or int(result.as_numpy("y")[0])),
        )
    return sorted(answers.get(timeout=20) for _ in range(20))


def streamed(moody: str) -> list[int]:
    answers: queue.Queue[Any] = queue.Queue()
    client = triton.InferenceServerClient(moody)
    client.start_stream(lambda result, error: answers.put(str(error) if error else int(result.as_numpy("y")[0])))
    for value in range(20):
        client.async_stream_infer(ANY, _inputs({"x": np.array([value])}, {"x": "INT64"}))
    got = [answers.get(timeout=20) for _ in range(20)]
    client.stop_stream()
    return got


def _refusal(call: Any) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    return ["OK", ""]


def errors(moody: str) -> dict[str, list[str]]:
    client = triton.InferenceServerClient(moody)
    wrong = _inputs({"x": np.array([1.5])}, {"x": "FP64"})
    unknown = _inputs({"z": np.array([1])}, {"z": "INT64"})
    return {
        "type": _refusal(lambda: client.infer(ANY, wrong)),
        "name": _refusal(lambda: client.infer(ANY, unknown)),
        "model": _refusal(lambda: _moody(client, -1)),
        "deadline": _refusal(lambda: _moody(client, -3, client_timeout=0.5)),
        "output": _refusal(lambda: _moody(client, 1, outputs=[triton.InferRequestedOutput("gone")])),
        "classes": _refusal(lambda: _moody(client, 1, outputs=[triton.InferRequestedOutput("y", class_count=2)])),
        "shared memory": _refusal(lambda: client.register_system_shared_memory("r", "/r", 64)),
        "trace": _refusal(client.get_trace_settings),
    }


def management(oip: str) -> dict[str, Any]:
    client = triton.InferenceServerClient(oip)
    _every(client)
    config = client.get_model_config(ANY).config
    statistics = client.get_inference_statistics(ANY).model_stats
    index = client.get_model_repository_index().models
    return {
        "config": {each.name: [int(each.data_type), list(each.dims)] for each in config.input},
        "counted": statistics[0].inference_stats.success.count > 0,
        "index": [[each.name != "", each.state] for each in index],
    }


checks.run(
    health,
    metadata,
    every_datatype_there_and_back,
    gzip_is_answered,
    outputs_on_request,
    asynchronous,
    streamed,
    errors,
    management,
)
