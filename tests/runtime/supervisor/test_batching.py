"""Requests that share a call of the model get what each would have got alone, and only where that is certain."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime import contract, tensors
from model_runtime.errors import ModelFailure, PredictionError
from model_runtime.model.service import Context, Request, RuntimeService
from model_runtime.outcome import Call
from model_runtime.prediction import Predictor

ROWS = {"x": {"shape": [-1, 2], "type": "double"}, "s": {"shape": [-1], "type": "string"}}
PROMISE = {
    "name": "f",
    "inputs": ROWS,
    "outputs": {"y": {"shape": [-1], "type": "double"}, "t": {"shape": [-1], "type": "string"}},
}
VECTOR = {
    "name": "f",
    "inputs": {"x": {"shape": [-1], "type": "double"}},
    "outputs": {"y": {"shape": [-1], "type": "double"}},
}
ERA = tensors.ERAS["v2"]


class Sums(RuntimeService):
    """Row by row: a sum and an echo. Refuses a row that holds a 13."""

    sizes: list[int]

    def Predict(self, request: Request, context: Context) -> Any:
        self.sizes.append(len(request.inputs["x"]))
        if 13 in request.inputs["x"]:
            raise ValueError("unlucky")
        return {"y": request.inputs["x"].sum(axis=1), "t": np.char.upper(request.inputs["s"])}


class Softmax(RuntimeService):
    """Looks at all numbers at once, under a contract that looks as if it did not."""

    def Predict(self, request: Request, context: Context) -> Any:
        powers = np.exp(request.inputs["x"] - request.inputs["x"].max())
        return {"y": powers / powers.sum()}


class Counter(RuntimeService):
    """Answers otherwise each time."""

    calls = 0

    def Predict(self, request: Request, context: Context) -> Any:
        self.calls += 1
        return {"y": request.inputs["x"] * 0 + self.calls}


def predictor(kind: type[RuntimeService], promise: Any = PROMISE) -> Predictor:
    service = kind("/nowhere", contract.parse(promise))
    if isinstance(service, Sums):
        service.sizes = []
    made = Predictor(service)
    made.try_batching()
    return made


def call(rows: list[list[float]], texts: list[str]) -> Call:
    inputs = {
        "x": tensors.tensor(np.array(rows, dtype=float).reshape(-1, 2)),
        "s": tensors.tensor(texts, contract.DataType.STRING)._replace(shape=(len(texts),)),
    }
    return Call(ERA.predict, tensors.encode_request(ERA, tensors.Request(inputs)))


rows = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.text("abcé ", max_size=5)), max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8))
def test_together_or_alone_the_answers_are_the_same(requests: list[list[tuple[float, float, str]]]) -> None:
    together = predictor(Sums)
    calls = [call([[a, b] for a, b, _ in request], [text for *_, text in request]) for request in requests]

    outcomes = together.handle_all(calls)

    for one, outcome in zip(calls, outcomes, strict=True):
        assert outcome.result == predictor(Sums).handle(one.method, one.data)


def test_what_is_waiting_reaches_the_model_as_one_call() -> None:
    made = predictor(Sums)
    made._service.sizes.clear()  # type: ignore[attr-defined]

    outcomes = made.handle_all([call([[1, 2]], ["a"]), call([[3, 4], [5, 6]], ["b", "c"]), call([[7, 8]], ["d"])])

    assert made._service.sizes == [4]  # type: ignore[attr-defined]
    assert [outcome.batch for outcome in outcomes] == [3, 3, 3]


def test_one_bad_request_costs_its_neighbours_nothing() -> None:
    outcomes = predictor(Sums).handle_all([call([[1, 2]], ["a"]), call([[13, 0]], ["b"]), call([[7, 8]], ["d"])])

    assert isinstance(outcomes[1].result, ModelFailure)
    for index, expected in ((0, 3.0), (2, 15.0)):
        data = outcomes[index].result
        assert not isinstance(data, PredictionError)
        assert tensors.decode_response(ERA, data)["y"].values.tolist() == [expected]


@pytest.mark.parametrize("kind", [Softmax, Counter])
def test_models_whose_rows_see_each_other_are_never_given_two_requests(kind: type[RuntimeService]) -> None:
    made = predictor(kind, VECTOR)

    assert not made.batches


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"x": {"shape": [-1, 2], "type": "double"}, "s": {"shape": "scalar", "type": "string"}}},
        {"inputs": {}},
        {"outputs": {"y": {"shape": "scalar", "type": "double"}}},
        {"outputs": {"y": {"type": "double"}}},
        {"inputs": {"x": {"shape": [2, 2], "type": "double"}}},
    ],
)
def test_a_contract_without_an_open_first_dimension_everywhere_forbids_it(change: Any) -> None:
    assert not predictor(Sums, {**PROMISE, **change}).batches


def test_on_a_live_runtime_requests_that_wait_share_calls(serve: Any) -> None:
    code = """
    import time
    SIZES = []

    def f(x):
        SIZES.append(len(x))
        time.sleep(0.05)
        return {"y": x, "size": x * 0 + len(x)}
    """
    promise = {**VECTOR, "outputs": {"y": {"shape": [-1], "type": "double"}, "size": {"shape": [-1], "type": "double"}}}
    # The size differs between one row and two, so the trial forbids sharing.
    client = serve(code, promise, batch_max_size=64)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: client.predict({"x": tensors.tensor(np.array([float(x)]))}), range(8)))

    assert [answer["y"].tolist() for answer in answers] == [[float(x)] for x in range(8)]
    assert {answer["size"].tolist()[0] for answer in answers} == {1.0}


def test_on_a_live_runtime_shared_calls_are_faster_and_right(serve: Any) -> None:
    code = "import time\n\ndef f(x):\n    time.sleep(0.05)\n    return {'y': x * 2}\n"
    client = serve(code, VECTOR, batch_max_size=64)
    started = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda x: client.predict({"x": tensors.tensor(np.array([float(x)]))}), range(40)))
    seconds = time.monotonic() - started

    assert [answer["y"].tolist() for answer in answers] == [[2.0 * x] for x in range(40)]
    assert seconds < 40 * 0.05 * 3 / 4


def test_golden_answers_of_a_batching_model_do_not_change_what_errors_say(serve: Any, tmp_path: Path) -> None:
    code = "def f(x):\n    if (x < 0).any():\n        raise ValueError('negative')\n    return {'y': x}\n"
    client = serve(code, VECTOR, batch_max_size=64)

    def ask(x: int) -> str:
        try:
            return str(client.predict({"x": tensors.tensor(np.array([float(x)]))})["y"].tolist())
        except grpc.RpcError as error:
            return str(error.details())

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, [1, -1, 2, -2, 3, -3, 4, 5] * 5))

    assert answers[0::8] == ["[1.0]"] * 5
    assert all("ValueError: negative" in answer for answer in answers[1::8])
