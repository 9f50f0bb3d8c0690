"""The published Python clients of the protocols, each in an environment of its own, against real runtimes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.clients
Found = dict[str, Any]
OK = [True, True, True]


# tritonclient ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triton(python_client: Callable[[str], Found]) -> Found:
    return python_client("tritonclient")


def test_triton_finds_server_and_model_ready(triton: Found) -> None:
    assert triton["health"] == OK


def test_triton_reads_the_metadata(triton: Found) -> None:
    assert triton["metadata"]["server"] == "model-runtime"
    assert triton["metadata"]["inputs"]["BF16"] == ["BF16", [-1]]
    assert len(triton["metadata"]["inputs"]) == len(triton["metadata"]["outputs"]) == 14


def test_triton_sends_every_datatype_there_and_back(triton: Found) -> None:
    assert triton["every_datatype_there_and_back"] == []  # those that came back otherwise


def test_triton_may_compress_its_requests(triton: Found) -> None:
    assert triton["gzip_is_answered"] == [True, False]


def test_triton_asks_for_some_outputs(triton: Found) -> None:
    assert triton["outputs_on_request"] == ["FP32_out"]


def test_triton_calls_asynchronously(triton: Found) -> None:
    assert triton["asynchronous"] == [2 * value for value in range(20)]


@pytest.mark.parametrize(
    ("check", "code", "text"),
    [
        ("type", "INVALID_ARGUMENT", "inputs.x: expected int64[*], got double[1]"),
        ("name", "INVALID_ARGUMENT", "inputs.z: not in the contract, expected x"),
        ("model", "INTERNAL", "ValueError: a bad mood"),
        ("deadline", "DEADLINE_EXCEEDED", ""),
        ("output", "INVALID_ARGUMENT", "outputs.gone: not in the contract, expected y"),
        ("trace", "UNIMPLEMENTED", ""),
        ("classes", "INVALID_ARGUMENT", "classification"),
        ("shared memory", "UNIMPLEMENTED", ""),
    ],
)
def test_triton_sees_what_is_wrong(triton: Found, check: str, code: str, text: str) -> None:
    got, message = triton["errors"][check]

    assert got == f"StatusCode.{code}"
    assert text in message


def test_triton_predicts_on_a_stream(triton: Found) -> None:
    assert triton["streamed"] == [2 * value for value in range(20)]


def test_triton_reads_config_statistics_and_index(triton: Found) -> None:
    found = triton["management"]

    assert found["config"].keys() == triton["metadata"]["inputs"].keys()
    assert all(dims == [-1] for _, dims in found["config"].values())
    assert (found["counted"], found["index"]) == (True, [[True, "READY"]])


# kserve ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kserve(python_client: Callable[[str], Found]) -> Found:
    return python_client("kserve")


def test_kserve_finds_server_and_model_ready(kserve: Found) -> None:
    assert kserve["health"] == OK


def test_kserve_predicts_with_raw_values_and_with_contents(kserve: Found) -> None:
    assert kserve["predictions"] == [[42], [42]]


def test_kserve_calls_a_hundred_times_concurrently(kserve: Found) -> None:
    assert kserve["many_at_a_time"] is True


def test_kserve_sees_what_is_wrong(kserve: Found) -> None:
    assert kserve["errors"]["model"][0] == "INTERNAL"
    assert "ValueError: a bad mood" in kserve["errors"]["model"][1]
    assert kserve["errors"]["deadline"][0] == "DEADLINE_EXCEEDED"


# MLServer -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlserver(python_client: Callable[[str], Found]) -> Found:
    return python_client("mlserver")


def test_mlservers_stubs_find_server_and_model_ready(mlserver: Found) -> None:
    assert mlserver["health"] == OK


def test_mlservers_stubs_read_the_metadata(mlserver: Found) -> None:
    assert mlserver["metadata"] == [["n", "INT64", [-1, 1]], ["t", "BYTES", [-1, 1]]]


def test_mlservers_codecs_predict_with_contents_and_with_raw_values(mlserver: Found) -> None:
    assert mlserver["predictions"] == [[[[20], [21]], ["añb", ""]]] * 2


def test_mlservers_stubs_see_the_details_of_an_error(mlserver: Found) -> None:
    assert mlserver["errors"] == {
        "code": "INVALID_ARGUMENT",
        "details": ["google.rpc.BadRequest", "google.rpc.ErrorInfo"],
    }


# TensorFlow Serving ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tensorflow(python_client: Callable[[str], Found]) -> Found:
    return python_client("tensorflow-serving-api")


def test_tensorflow_sends_every_dtype_there_and_back(tensorflow: Found) -> None:
    assert tensorflow["every_dtype_there_and_back"] == []  # those that came back otherwise


def test_tensorflow_chooses_a_signature(tensorflow: Found) -> None:
    assert tensorflow["several_signatures"]["double"] == [4]
    assert tensorflow["several_signatures"]["negate"] == [-2]
    assert tensorflow["several_signatures"]["gone"][0] == "INVALID_ARGUMENT"


def test_tensorflow_sends_one_value_for_a_larger_shape_and_none_for_zeros(tensorflow: Found) -> None:
    assert tensorflow["one_value_for_a_shape"] == []  # those that were refused, or came back otherwise


def test_tensorflow_filters_the_outputs(tensorflow: Found) -> None:
    assert tensorflow["output_filter"] == ["bool_out", "int8_out"]


def test_tensorflow_reads_which_model_answered(tensorflow: Found) -> None:
    assert tensorflow["model_spec"] == ["mine", "double"]


def test_tensorflow_reads_metadata_and_status(tensorflow: Found) -> None:
    side = {"inputs": {"x": "int64"}, "outputs": {"y": "int64"}}

    assert tensorflow["metadata"] == {"double": side, "negate": side}
    assert tensorflow["status"] == ["AVAILABLE"]


def test_tensorflow_sees_what_is_wrong(tensorflow: Found) -> None:
    assert tensorflow["errors"] == {
        "shape": ["INVALID_ARGUMENT", ["inputs.x"]],
        "type": ["INVALID_ARGUMENT", ["inputs.x"]],
        "model": ["INTERNAL", []],
        "deadline": ["DEADLINE_EXCEEDED", []],
    }
