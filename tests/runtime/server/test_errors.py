"""Who is to blame, told by status code, text and field violations."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from model_runtime import client as clients
from model_runtime import errors, tensors
from model_runtime.contract import DataType
from model_runtime.server import codes, program

IMAGE = {
    "name": "predict",
    "inputs": {"image": {"shape": [-1, 28, 28], "type": "float32"}, "name": {"shape": "scalar", "type": "string"}},
    "outputs": {"label": {"shape": [-1], "type": "int32"}},
}
X = {"x": tensors.tensor(np.array([1.0, 2.0]))}


def failure(client: Any, inputs: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        client.predict(inputs, **options)
    return caught.value


def test_every_violation_of_a_request_is_told_at_once_with_its_path(serve: Any) -> None:
    client = serve("def predict(image, name):\n    return {'label': [1]}\n", IMAGE)

    error = failure(client, {"image": tensors.tensor(np.zeros((1, 784))), "extra": tensors.tensor(1)})

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.path: violation.message for violation in clients.violations(error)} == {
        "inputs.image": "expected float32[*,28,28], got double[1,784]",
        "inputs.name": "expected string, got nothing",
        "inputs.extra": "not in the contract, expected image, name",
    }
    assert "inputs.image: expected float32[*,28,28], got double[1,784]" in error.details()


def test_an_error_carries_its_reason_for_machines(serve: Any) -> None:
    error = failure(serve(), {})

    details = rpc_status.from_call(error).details
    info = error_details_pb2.ErrorInfo()

    assert details[0].Unpack(info)
    assert (info.reason, info.domain) == ("InvalidRequest", "runtime.hydrosphere.io")


def test_thousands_of_violations_still_fit_into_a_trailer(serve: Any) -> None:
    error = failure(serve(), {f"input é {number}": X["x"] for number in range(3000)})

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "more" in clients.violations(error)[-1].message


def test_bytes_that_are_no_request_are_the_clients_fault(serve: Any) -> None:
    client = serve()

    with pytest.raises(grpc.RpcError) as caught:
        client.call("/tensorflow.serving.PredictionService/Predict", b"\x12\xff")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "def echo(x):\n    return {'y': 1 / 0}\n",
            "the model's function 'echo' failed: ZeroDivisionError: division by zero (files/src/func_main.py, line 2, in echo)",
        ),
        ("def echo(x):\n    raise SystemExit(3)\n", "the model's function 'echo' failed: SystemExit: 3"),
        ("def echo(x):\n    return None\n", "the model's function returned nothing, expected a dict of outputs"),
        ("def echo(x):\n    return [1]\n", "the model's function returned list, expected a dict of outputs"),
        ("def echo(x):\n    return {'z': x}\n", "outputs.y: expected double[*], got only z"),
        ("def echo(x):\n    return {'y': 'text'}\n", "outputs.y: expected double, got string"),
        (
            "def echo(x):\n    return {'y': [[1.0, 2.0], [3.0, 4.0]]}\n",
            "outputs.y: expected double[*], got double[2,2]",
        ),
        ("def echo(z):\n    return {'y': z}\n", "TypeError: echo() got an unexpected keyword argument 'x'"),
    ],
)
def test_the_models_faults_are_internal_and_say_what_happened(serve: Any, code: str, text: str) -> None:
    error = failure(serve(code), X)

    assert error.code() is grpc.StatusCode.INTERNAL
    assert text in error.details()
    assert "Traceback" not in error.details()


def test_the_models_own_words_can_be_kept_from_clients(serve: Any) -> None:
    error = failure(serve("def echo(x):\n    raise ValueError('the password is 1234')\n", error_details=False), X)

    assert error.code() is grpc.StatusCode.INTERNAL
    assert "1234" not in error.details()


def test_a_model_may_refuse_a_request_as_the_clients_fault(serve: Any) -> None:
    code = (
        "from model_runtime import InvalidRequest\n\ndef echo(x):\n    raise InvalidRequest('x must not be negative')\n"
    )

    error = failure(serve(code), X)

    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "x must not be negative")


def test_a_call_whose_deadline_passed_while_it_waited_never_reaches_the_model(serve: Any) -> None:
    code = """
    import time

    CALLS = []

    def echo(x):
        CALLS.append(x)
        time.sleep(0.5)
        return {"y": [float(len(CALLS))]}
    """
    client = serve(code)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.predict, X)
        time.sleep(0.1)
        late = failure(client, X, timeout=0.2)
        first.result()

    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.5)
    assert client.predict(X)["y"].tolist() == [2.0]


def test_one_request_too_many_is_refused_before_work_begins(serve: Any) -> None:
    client = serve("import time\n\ndef echo(x):\n    time.sleep(1)\n    return {'y': x}\n", max_queue=2)
    answers: list[str] = []

    def call() -> None:
        try:
            client.predict(X)
            answers.append("OK")
        except grpc.RpcError as error:
            answers.append(error.code().name)

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    refused_at = [answer for answer in answers if answer != "OK"]
    for thread in threads:
        thread.join()

    assert refused_at == ["RESOURCE_EXHAUSTED"] * 4
    assert answers.count("OK") == 2


def test_probes_are_answered_while_predictions_wait_for_the_model(serve: Any) -> None:
    client = serve("import time\n\ndef echo(x):\n    time.sleep(2)\n    return {'y': x}\n")
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(client.predict, X) for _ in range(2)]
        time.sleep(0.2)
        started = time.monotonic()
        status = client.health("tensorflow.serving.PredictionService")
        seconds = time.monotonic() - started
        for call in calls:
            call.cancel()

    assert status == "SERVING"
    assert seconds < 1.5  # a prediction takes two


def test_a_message_beyond_the_limit_is_refused(serve: Any) -> None:
    error = failure(serve(max_message_bytes=2000), {"x": tensors.tensor(np.zeros(1000))})

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_answers_are_converted_to_the_contract_where_nothing_is_lost(serve: Any) -> None:
    promise = {
        "name": "f",
        "inputs": {},
        "outputs": {
            "a": {"shape": "scalar", "type": "int32"},
            "b": {"shape": [-1, 1], "type": "float32"},
            "c": {"shape": "scalar", "type": "string"},
            "d": {"shape": [-1], "type": "int64"},
        },
    }
    code = (
        "import numpy as np\n\ndef f():\n    return {'a': 7, 'b': [0.5, 0.25], 'c': 'x', 'd': np.int32(3), 'more': 1}\n"
    )

    answer = serve(code, promise).predict({})

    assert (int(answer["a"]), answer["a"].dtype.name) == (7, "int32")
    assert (answer["b"].tolist(), answer["b"].dtype.name) == ([[0.5], [0.25]], "float32")
    assert answer["c"] == "x"
    assert answer["d"].tolist() == [3]
    assert set(answer) == {"a", "b", "c", "d"}


def test_a_number_that_the_declared_type_cannot_hold_is_refused(serve: Any) -> None:
    promise = {"name": "f", "inputs": {}, "outputs": {"a": {"shape": "scalar", "type": "int32"}}}

    error = failure(serve("def f():\n    return {'a': 3000000000}\n", promise), {})

    assert error.code() is grpc.StatusCode.INTERNAL
    assert "expected int32, got 3000000000 which int32 cannot hold" in error.details()


def leaves(kind: type[Exception]) -> list[type[Exception]]:
    """Ours alone: tests define errors of their own."""
    ours = [below for below in kind.__subclasses__() if below.__module__ == errors.__name__]
    return [leaf for below in ours for leaf in leaves(below)] or [kind]


def test_every_kind_of_error_has_a_status_or_an_exit_status() -> None:
    predictions = leaves(errors.PredictionError)
    others = [leaf for leaf in leaves(errors.ModelRuntimeError) if leaf not in predictions]

    assert [leaf for leaf in predictions if leaf not in codes.STATUS] == []
    assert [leaf for leaf in others if not any(issubclass(leaf, kind) for kind in program.EXIT_STATUS)] == []
    assert [leaf for leaf in others if not any(issubclass(leaf, kind) for kind in program.REASONS)] == []


def test_async_functions_are_awaited(serve: Any) -> None:
    code = "import asyncio\n\nasync def echo(x):\n    await asyncio.sleep(0.01)\n    return {'y': x * 2}\n"

    assert serve(code).predict(X)["y"].tolist() == [2.0, 4.0]


def test_integers_for_a_double_contract_are_refused(serve: Any) -> None:
    error = failure(serve(), {"x": tensors.tensor([1, 2], DataType.INT64)})

    assert clients.violations(error) == [errors.Violation("inputs.x", "expected double[*], got int64[2]")]
