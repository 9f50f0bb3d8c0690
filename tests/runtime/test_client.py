"""The client: numpy and plain Python in, numpy out, whatever the protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from environments import ROOT
from serving import free_port

from model_runtime import Client, InvalidRequest, RuntimeManager, errors, tensors
from model_runtime.client import violations
from model_runtime.contract import DataType
from model_runtime.protocols import PROTOCOLS
from model_runtime.settings import Settings

EVERY = {
    "name": "every",
    "inputs": {
        "n": {"shape": "scalar", "type": "int32"},
        "s": {"shape": "scalar", "type": "string"},
        "m": {"shape": [-1, 2], "type": "double"},
        "words": {"shape": [-1], "type": "string"},
        "flag": {"shape": "scalar", "type": "bool"},
    },
    "outputs": {
        "n": {"shape": "scalar", "type": "int32"},
        "s": {"shape": "scalar", "type": "string"},
        "m": {"shape": [-1, 2], "type": "double"},
        "words": {"shape": [-1], "type": "string"},
        "flag": {"shape": "scalar", "type": "bool"},
    },
}
EVERY_CODE = "def every(n, s, m, words, flag):\n    return {'n': n, 's': s, 'm': m, 'words': words, 'flag': flag}\n"


@pytest.mark.parametrize("protocol", ["0.0.5", "v2", "v3", "open-inference"])
def test_plain_python_goes_in_and_numpy_comes_out(serve: Any, protocol: str) -> None:
    given = {"n": 3, "s": "añb", "m": [[1, 2], [3, 4]], "words": ["x", ""], "flag": True}

    answer = serve(EVERY_CODE, EVERY).predict(given, protocol=PROTOCOLS[protocol])

    assert answer["m"].dtype == np.float64
    assert answer["m"].tolist() == given["m"]
    assert answer["words"].tolist() == given["words"]
    assert (answer["n"], answer["s"], answer["flag"]) == (3, "añb", True)


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5, 2]),
        np.array([1.5, 2], dtype=np.float32),
        np.array([[1.5], [2]])[:, 0],
        (1.5, 2),
        [1.5, np.float32(2)],
    ],
)
def test_numpy_of_any_kind_becomes_the_contracts_type(serve: Any, value: Any) -> None:
    assert serve().predict({"x": value})["y"].tolist() == [1.5, 2.0]


def test_maps_are_dicts(serve: Any) -> None:
    fields = {"shape": "scalar", "fields": {"age": {"shape": "scalar", "type": "int64"}}}
    promise = {"name": "f", "inputs": {"p": fields}, "outputs": {"p": fields}}

    answer = serve("def f(p):\n    return {'p': p}\n", promise, era="v2").predict(
        {"p": {"age": 3}}, protocol=PROTOCOLS["v2"]
    )

    assert answer == {"p": {"age": 3}}


@pytest.mark.parametrize(
    ("inputs", "path"),
    [
        ({"x": ["a"]}, "inputs.x"),
        ({"x": None}, "inputs.x"),
        ({"x": [1, [2]]}, "inputs.x"),
        ({"x": object()}, "inputs.x"),
        ({"x": [1.0], "z": object()}, "inputs.z"),
    ],
)
def test_a_value_that_cannot_be_sent_is_named_before_anything_is_sent(
    serve: Any, inputs: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        serve().predict(inputs)

    assert [violation.path for violation in caught.value.violations] == [path]


@pytest.mark.parametrize("inputs", [{}, {"x": [1.0], "z": [1]}])
def test_missing_and_unknown_inputs_are_the_runtimes_to_refuse(serve: Any, inputs: dict[str, Any]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        serve().predict(inputs)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [each.path for each in violations(caught.value)] == ["inputs.z" if inputs else "inputs.x"]


def test_a_tensor_is_sent_unchanged(serve: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        serve().predict({"x": tensors.tensor([1], DataType.INT64)})

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_that_was_replaced_is_asked_again(tmp_path: Path, undo_model_loading: None) -> None:
    from serving import ECHO, ECHO_CONTRACT, model_directory

    port, quick = free_port(), Settings(warmup=False)
    words = {side: {name: {"shape": [-1], "type": "string"}} for side, name in (("inputs", "x"), ("outputs", "y"))}
    numbers = model_directory(tmp_path / "numbers")
    texts = model_directory(tmp_path / "texts", ECHO, {**ECHO_CONTRACT, **words})
    with Client(f"localhost:{port}", timeout=20) as client:
        for directory, given in ((numbers, [1.0]), (texts, ["a"]), (numbers, [2.0])):
            with RuntimeManager(directory, port, settings=quick) as runtime:
                runtime.wait_loaded(20)
                for _ in range(100):
                    try:
                        answer = client.predict({"x": given}, timeout=5)["y"].tolist()
                    except grpc.RpcError as error:
                        assert error.code() is grpc.StatusCode.UNAVAILABLE  # the channel is still backing off
                        __import__("time").sleep(0.1)
                        continue
                    break
                assert answer == given


def test_nobody_there_is_unavailable() -> None:
    with Client(f"localhost:{free_port()}", timeout=5) as client, pytest.raises(grpc.RpcError) as caught:
        client.predict({"x": [1]})

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_answer_that_is_no_message_says_so(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    class Garbage(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"\xff\xff")

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Garbage()])
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with Client(f"localhost:{port}", timeout=5) as client, pytest.raises(errors.OutputMismatch) as caught:
            client.predict({"x": tensors.tensor([1.0])})
    finally:
        server.stop(0).wait()

    assert "the answer over /tensorflow.serving.PredictionService/Predict cannot be read" in str(caught.value)


def test_the_page_of_clients_is_true(serve: Any) -> None:
    """Runs the Python of docs/clients.md, in order; what a comment says of a line's value is compared with it."""
    page = (ROOT / "docs" / "clients.md").read_text()
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    assert blocks
    promise = {
        "name": "summarise",
        "inputs": {"values": {"shape": [-1, 3], "type": "double"}},
        "outputs": {"mean": {"shape": [-1], "type": "double"}, "largest": {"shape": [-1], "type": "int64"}},
    }
    code = "def summarise(values):\n    return {'mean': values.mean(axis=1), 'largest': values.argmax(axis=1)}\n"
    target = serve(code, promise).target
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block.replace("localhost:9090", target), names)
        for expression, shown in re.findall(r"(?m)^(\S.*?)  +# -> (.*)$", block):
            assert repr(eval(expression, names)) == shown, expression
