"""Clients of the Open Inference Protocol (KServe's v2) on the same port: messages made by protobuf, and NVIDIA's own client."""

from __future__ import annotations

import queue
import subprocess
import time
from typing import Any

import grpc
import pytest
from environments import environment

from model_runtime import protos
from model_runtime.client import violations

SERVICE = "inference.GRPCInferenceService"
ADD = {
    "name": "add",
    "inputs": {"a": {"shape": "scalar", "type": "int32"}, "b": {"shape": [-1, 2], "type": "float32"}},
    "outputs": {"sum": {"shape": [-1, 2], "type": "float32"}, "name": {"shape": "scalar", "type": "string"}},
}
CODE = "def add(a, b):\n    return {'sum': a + b, 'name': 'größe'}\n"
MAP = {"name": "wrap", "outputs": {"n": {"shape": "scalar", "type": "int64"}, "m": {"shape": "scalar", "type": "map"}}}
MAP_CODE = "def wrap():\n    return {'n': 3, 'm': {'k': 1}}\n"


def message(name: str) -> Any:
    return protos.message("open_inference", f"inference.{name}")


def ask(client: Any, method: str, request: Any) -> Any:
    answer = message(type(request).DESCRIPTOR.name.replace("Request", "Response"))
    call = client.channel.unary_unary(f"/{SERVICE}/{method}", lambda sent: sent.SerializeToString(), answer.FromString)
    return call(request, timeout=10)


def question(*, raw: bool) -> Any:
    request = message("ModelInferRequest")(model_name="adder", model_version="7", id="42")
    a = request.inputs.add(name="a", datatype="INT32")
    b = request.inputs.add(name="b", datatype="FP32", shape=[2, 2])
    if raw:
        request.raw_input_contents.append((10).to_bytes(4, "little"))
        request.raw_input_contents.append(bytes.fromhex("0000803f 00000040 00004040 00008040"))
    else:
        a.contents.int_contents.append(10)
        b.contents.fp32_contents.extend([1, 2, 3, 4])
    return request


def test_typed_contents_are_answered_in_typed_contents(serve: Any) -> None:
    answer = ask(serve(CODE, ADD), "ModelInfer", question(raw=False))

    total, name = answer.outputs
    assert (total.name, total.datatype, list(total.shape)) == ("sum", "FP32", [2, 2])
    assert list(total.contents.fp32_contents) == [11, 12, 13, 14]
    assert (name.name, name.datatype, list(name.shape)) == ("name", "BYTES", [])
    assert list(name.contents.bytes_contents) == ["größe".encode()]
    assert not answer.raw_output_contents
    assert (answer.model_name, answer.model_version, answer.id) == ("adder", "7", "42")


def test_raw_contents_are_answered_in_raw_contents(serve: Any) -> None:
    answer = ask(serve(CODE, ADD), "ModelInfer", question(raw=True))

    assert [output.contents.ByteSize() for output in answer.outputs] == [0, 0]
    assert answer.raw_output_contents[0] == bytes.fromhex("00003041 00004041 00005041 00006041")
    assert answer.raw_output_contents[1] == b"\x07\0\0\0" + "größe".encode()


def test_the_answer_has_the_outputs_that_are_asked_for(serve: Any) -> None:
    request = question(raw=False)
    request.outputs.add(name="name")

    assert [output.name for output in ask(serve(CODE, ADD), "ModelInfer", request).outputs] == ["name"]


def test_the_contract_is_the_law_here_too(serve: Any) -> None:
    request = question(raw=False)
    request.inputs[0].datatype = "INT64"
    request.inputs[1].contents.fp32_contents.append(5)
    request.outputs.add(name="product")

    with pytest.raises(grpc.RpcError) as failure:
        ask(serve(CODE, ADD), "ModelInfer", request)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(map(str, violations(failure.value))) == [
        "inputs.a: expected int32, got int64",
        "inputs.b: expected 4 values for shape [2, 2], got 5",
        "outputs.product: not in the contract, expected sum, name",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda request: request.raw_input_contents.append(b"1234"),
            "raw contents for each input or for none, got 1 for 2",
        ),
        (lambda request: request.inputs.add(name="a", datatype="BOOL"), "expected each input once, got 'a' twice"),
        (
            lambda request: setattr(request.inputs[0], "datatype", "FP8"),
            "'a': expected a datatype of BOOL, .*, got 'FP8'",
        ),
    ],
)
def test_requests_that_make_no_sense_are_told_why(serve: Any, change: Any, told: str) -> None:
    request = question(raw=False)
    change(request)

    with pytest.raises(grpc.RpcError, match=told) as failure:
        ask(serve(CODE, ADD), "ModelInfer", request)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_output_that_the_protocol_cannot_carry_is_refused_before_the_model_is_asked(serve: Any) -> None:
    client = serve(MAP_CODE, MAP)
    request = message("ModelInferRequest")()

    with pytest.raises(
        grpc.RpcError, match=r"outputs.m: map cannot be told over inference.GRPCInferenceService"
    ) as failure:
        ask(client, "ModelInfer", request)
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    request.outputs.add(name="n")
    assert list(ask(client, "ModelInfer", request).outputs[0].contents.int64_contents) == [3]


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_a_type_left_open_is_the_models_fault_where_it_cannot_be_told(serve: Any, isolation: str) -> None:
    promise = {"name": "wrap", "outputs": {"c": {"shape": "scalar", "type": "any"}}}
    client = serve("def wrap():\n    return {'c': 1j}\n", promise, isolation=isolation)

    with pytest.raises(grpc.RpcError, match="'c': expected a type that is one of BOOL, .*, got complex128") as failure:
        ask(client, "ModelInfer", message("ModelInferRequest")())

    assert failure.value.code() is grpc.StatusCode.INTERNAL


def test_parameters_that_nobody_knows_are_refused(serve: Any) -> None:
    client = serve(CODE, ADD)
    request = question(raw=False)
    request.parameters["sequence_id"].int64_param = 3
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    request.outputs.add(name="sum").parameters["classification"].int64_param = 2

    with pytest.raises(grpc.RpcError) as failure:
        ask(client, "ModelInfer", request)

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.path for violation in violations(failure.value)} == {
        "parameters.sequence_id",
        "inputs.a.parameters.shared_memory_region",
        "outputs.sum.parameters.classification",
    }


def test_parameters_that_change_no_answer_are_accepted(serve: Any) -> None:
    request = question(raw=False)
    request.parameters["priority"].uint64_param = 1
    request.inputs[0].parameters["content_type"].string_param = "np"
    request.outputs.add(name="name").parameters["binary_data"].bool_param = True

    assert ask(serve(CODE, ADD), "ModelInfer", request).outputs


SEVERAL = {
    name: {"inputs": {"x": {"shape": [-1], "type": "int64"}}, "outputs": {"y": {"shape": [-1], "type": kind}}}
    for name, kind in (("plus", "int64"), ("half", "double"))
}
SEVERAL_CODE = "def plus(x):\n    return {'y': x + 1}\ndef half(x):\n    return {'y': x / 2}\n"


def several(model: str, parameter: str = "") -> Any:
    request = message("ModelInferRequest")(model_name=model)
    request.inputs.add(name="x", datatype="INT64", shape=[1]).contents.int64_contents.append(4)
    if parameter:
        request.parameters["signature_name"].string_param = parameter
    return request


@pytest.mark.parametrize(("model", "parameter"), [("m/half", ""), ("m", "half"), ("m/plus", "half")])
def test_the_models_name_or_a_parameter_names_a_signature(serve: Any, model: str, parameter: str) -> None:
    answer = ask(serve(SEVERAL_CODE, SEVERAL, era="v0"), "ModelInfer", several(model, parameter))

    assert list(answer.outputs[0].contents.fp64_contents) == [2]
    assert answer.model_name == model


@pytest.mark.parametrize(("model", "parameter"), [("m", ""), ("m/gone", ""), ("m", "gone")])
def test_an_unknown_signature_is_refused_in_the_protocols_own_words(serve: Any, model: str, parameter: str) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        ask(serve(SEVERAL_CODE, SEVERAL, era="v0"), "ModelInfer", several(model, parameter))

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(map(str, violations(failure.value))) == [
        f"parameters.signature_name: expected one of plus, half, got {parameter!r}"
    ]


def test_half_floats_travel_raw_whatever_the_request_was(serve: Any) -> None:
    promise = {"name": "half", "outputs": {"h": {"shape": [-1], "type": "half"}}}
    client = serve("import numpy\ndef half():\n    return {'h': numpy.array([1.5], 'f2')}\n", promise)

    answer = ask(client, "ModelInfer", message("ModelInferRequest")())

    assert (answer.outputs[0].datatype, list(answer.raw_output_contents)) == ("FP16", [b"\x00\x3e"])


def test_a_signature_is_named_by_a_parameter(serve: Any) -> None:
    one = {"outputs": {"y": {"shape": "scalar", "type": "int64"}}}
    client = serve(
        "def one():\n    return {'y': 1}\ndef two():\n    return {'y': 2}\n", {"one": one, "two": one}, era="v0"
    )
    request = message("ModelInferRequest")()
    request.parameters["signature_name"].string_param = "two"

    assert list(ask(client, "ModelInfer", request).outputs[0].contents.int64_contents) == [2]


# The questions beside -----------------------------------------------------------------------------------------------


def test_liveness_readiness_and_metadata_are_answered(serve: Any) -> None:
    client = serve(CODE, ADD)

    assert ask(client, "ServerLive", message("ServerLiveRequest")()).live
    assert ask(client, "ServerReady", message("ServerReadyRequest")()).ready
    assert ask(client, "ModelReady", message("ModelReadyRequest")(name="adder")).ready
    assert ask(client, "ServerMetadata", message("ServerMetadataRequest")()).name == "model-runtime"
    told = ask(client, "ModelMetadata", message("ModelMetadataRequest")(name="adder"))
    assert (told.name, told.platform) == ("adder", "python")
    fields = [(each.name, each.datatype, list(each.shape)) for each in (*told.inputs, *told.outputs)]
    assert fields == [("a", "INT32", []), ("b", "FP32", [-1, 2]), ("sum", "FP32", [-1, 2]), ("name", "BYTES", [])]


def test_a_model_that_cannot_be_loaded_is_not_ready_and_the_server_lives(serve: Any) -> None:
    client = serve("raise ValueError('no')\n", ADD)

    assert ask(client, "ServerLive", message("ServerLiveRequest")()).live
    assert not ask(client, "ServerReady", message("ServerReadyRequest")()).ready
    assert not ask(client, "ModelReady", message("ModelReadyRequest")()).ready


def test_bytes_that_are_no_question_are_refused(serve: Any) -> None:
    client = serve(CODE, ADD)

    with pytest.raises(grpc.RpcError, match="the request is no message") as failure:
        client.call(f"/{SERVICE}/ModelMetadata", b"\x0a\x02\xff\xff")

    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# A client of others -------------------------------------------------------------------------------------------------

TRITON = """
import sys, numpy as np
import tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("adder")
a = triton.InferInput("a", [], "INT32")
a.set_data_from_numpy(np.array(10, "i4"))
b = triton.InferInput("b", [1, 2], "FP32")
b.set_data_from_numpy(np.array([[0.5, 1.5]], "f4"))
answer = client.infer("adder", [a, b], request_id="1")
print(answer.as_numpy("sum").tolist(), answer.as_numpy("name").item().decode(), answer.get_response().id)
print([each.name for each in client.get_model_metadata("adder").inputs])
asked = client.infer("adder", [a, b], outputs=[triton.InferRequestedOutput("name")])
print(asked.as_numpy("sum"))
try:
    client.infer("adder", [b])
except triton.InferenceServerException as error:
    print(error.status(), error.message().partition(";")[2].strip())
"""


def test_nvidias_client_is_answered(serve: Any) -> None:
    python = environment("3.11", "tritonclient[grpc]==2.62.0", "numpy==2.3.5")

    done = subprocess.run(
        [python, "-W", "ignore", "-c", TRITON, serve(CODE, ADD).target], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[[10.5, 11.5]] größe 1",
        "['a', 'b']",
        "None",
        "StatusCode.INVALID_ARGUMENT inputs.a: expected int32, got nothing",
    ]


# What is asked beside predictions -----------------------------------------------------------------------------------


def test_metadata_shows_every_signature(serve: Any) -> None:
    client = serve(SEVERAL_CODE, SEVERAL, era="v0")
    plain = ask(client, "ModelMetadata", message("ModelMetadataRequest")(name="m"))
    half = ask(client, "ModelMetadata", message("ModelMetadataRequest")(name="m/half", version="7"))

    assert sorted(plain.properties) == ["signature:half", "signature:plus"]
    assert (list(plain.versions), list(plain.inputs)) == (["1"], [])
    assert (half.name, list(half.versions), half.outputs[0].datatype) == ("m/half", ["7"], "FP64")


def test_the_configuration_is_the_contracts(serve: Any) -> None:
    config = ask(serve(CODE, ADD), "ModelConfig", message("ModelConfigRequest")(name="m")).config

    assert (config.name, config.max_batch_size) == ("m", 0)
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [("a", 8, []), ("b", 11, [-1, 2])]
    assert [(each.name, each.data_type, list(each.dims)) for each in config.output] == [
        ("sum", 11, [-1, 2]),
        ("name", 13, []),
    ]


def test_statistics_count_what_happened(serve: Any) -> None:
    client = serve(CODE, ADD)
    for _ in range(3):
        ask(client, "ModelInfer", question(raw=True))
    with pytest.raises(grpc.RpcError):
        ask(client, "ModelInfer", message("ModelInferRequest")())

    [found] = ask(client, "ModelStatistics", message("ModelStatisticsRequest")()).model_stats

    stats = found.inference_stats
    assert (found.inference_count, found.execution_count, stats.success.count, stats.fail.count) == (3, 3, 3, 1)
    assert 0 < stats.compute_infer.ns < stats.success.ns
    assert stats.queue.ns + stats.compute_input.ns + stats.compute_infer.ns <= stats.success.ns + 3
    assert abs(found.last_inference / 1000 - time.time()) < 60


def test_the_repository_holds_the_one_model(serve: Any) -> None:
    [found] = ask(serve(CODE, ADD), "RepositoryIndex", message("RepositoryIndexRequest")(ready=True)).models

    assert (found.name, found.version, found.state, found.reason) == ("model", "1", "READY", "")


@pytest.mark.parametrize(
    "method", ["SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "RepositoryModelLoad", "TraceSetting"]
)
def test_what_is_not_served_is_refused_with_a_reason(serve: Any, method: str) -> None:
    with pytest.raises(grpc.RpcError, match=f"{method} is not served: ") as failure:
        serve(CODE, ADD).channel.unary_unary(f"/{SERVICE}/{method}")(b"", timeout=10)

    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


# Streams ------------------------------------------------------------------------------------------------------------

ECHO = {
    "name": "echo",
    "inputs": {"x": {"shape": [-1], "type": "int64"}},
    "outputs": {"y": {"shape": [-1], "type": "int64"}},
}
MOODY = """
import time
def echo(x):
    if x[0] < 0:
        raise ValueError("a bad mood")
    if x[0] == 1000:
        time.sleep(1.5)
    return {"y": x}
"""


def stream(client: Any, requests: Any, timeout: float | None = 30) -> Any:
    answer = message("ModelStreamInferResponse")
    call = client.channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer", lambda sent: sent.SerializeToString(), answer.FromString
    )
    return call(requests, timeout=timeout)


def numbered(value: int, count: int = 1) -> Any:
    request = message("ModelInferRequest")(model_name="m", id=str(value))
    request.inputs.add(name="x", datatype="INT64", shape=[count])
    request.raw_input_contents.append(value.to_bytes(8, "little", signed=True) * count)
    return request


def test_a_stream_is_answered_in_order_and_outlives_its_errors(serve: Any) -> None:
    sent = [*range(50), -1, *range(51, 60)]

    answers = list(stream(serve(MOODY, ECHO), map(numbered, sent)))

    assert [answer.infer_response.id for answer in answers] == list(map(str, sent))
    failed = [answer for answer in answers if answer.error_message]
    assert [answer.infer_response.id for answer in failed] == ["-1"]
    assert failed[0].error_message.startswith("INTERNAL: ")
    assert "ValueError: a bad mood" in failed[0].error_message
    values = [int.from_bytes(answer.infer_response.raw_output_contents[0], "little") for answer in answers[:50]]
    assert values == sent[:50]


def test_a_stream_of_large_answers_is_taken_whole(serve: Any) -> None:
    answers = list(stream(serve(MOODY, ECHO), (numbered(value, 100_000) for value in range(20))))

    assert [len(answer.infer_response.raw_output_contents[0]) for answer in answers] == [800_000] * 20


def test_bytes_that_are_no_request_cost_one_answer_of_the_stream(serve: Any) -> None:
    client = serve(MOODY, ECHO)
    call = client.channel.stream_stream(
        f"/{SERVICE}/ModelStreamInfer", None, message("ModelStreamInferResponse").FromString
    )

    first, second = call(iter([b"\xff", numbered(3).SerializeToString()]), timeout=20)

    assert first.error_message.startswith("INVALID_ARGUMENT: the request is no ModelInferRequest")
    assert (second.error_message, second.infer_response.id) == ("", "3")


def test_a_client_that_leaves_its_stream_costs_nothing(serve: Any) -> None:
    client = serve(MOODY, ECHO)
    for _ in range(20):
        stream(client, iter([numbered(1), numbered(2)])).cancel()

    assert [answer.infer_response.id for answer in stream(client, iter([numbered(3)]))] == ["3"]


def test_a_stop_answers_what_a_stream_asked(serve: Any) -> None:
    client = serve(MOODY, ECHO)
    waiting: queue.Queue[Any] = queue.Queue()
    waiting.put(numbered(1000))
    answers = stream(client, iter(waiting.get, None))
    time.sleep(0.5)

    began = time.monotonic()
    client.runtime.stop()

    assert next(answers).infer_response.id == "1000"
    with pytest.raises(grpc.RpcError) as failure:
        next(answers)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 10
    waiting.put(None)
