"""Requests share a call of the model only where that is asked for; then each gets what it would have got alone."""

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
from serving import model_directory

from model_runtime import contract, tensors
from model_runtime.errors import ModelFailure, ModelImportFailed, PredictionError
from model_runtime.model.config import ModelOptions
from model_runtime.model.service import Context, Request, RuntimeService
from model_runtime.outcome import Call
from model_runtime.prediction import Predictor
from model_runtime.settings import Settings

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

    batch_max_size = 64
    sizes: list[int]

    def Predict(self, request: Request, context: Context) -> Any:
        self.sizes.append(len(request.inputs["x"]))
        if 13 in request.inputs["x"]:
            raise ValueError("unlucky")
        return {"y": request.inputs["x"].sum(axis=1), "t": np.char.upper(request.inputs["s"])}


class Softmax(RuntimeService):
    """Looks at all numbers at once, under a contract that looks as if it did not."""

    batch_max_size = 64

    def Predict(self, request: Request, context: Context) -> Any:
        powers = np.exp(request.inputs["x"] - request.inputs["x"].max())
        return {"y": powers / powers.sum()}


class Counter(RuntimeService):
    """Answers otherwise each time."""

    batch_max_size = 64
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
    assert predictor(kind, VECTOR).batch_limit == 1


MATRIX = {
    "name": "f",
    "inputs": {"x": {"shape": [-1, 4], "type": "double"}},
    "outputs": {"y": {"shape": [-1], "type": "double"}},
}
TEXTS = {
    "name": "f",
    "inputs": {"x": {"shape": [-1], "type": "string"}},
    "outputs": {"y": {"shape": [-1], "type": "string"}},
}


def _fill(x: Any) -> Any:
    return np.where(np.isnan(x), np.nanmean(x, axis=0), x).mean(axis=1)


def _unique(x: Any) -> Any:
    _, inverse = np.unique(x[:, 0], return_inverse=True)
    return inverse.astype(float)


TIMES = {
    "name": "f",
    "inputs": {"x": {"shape": [-1], "type": "int64"}},
    "outputs": {"y": {"shape": [-1], "type": "int64"}},
}
BYTES = {
    "name": "f",
    "inputs": {"x": {"shape": [-1], "type": "uint8"}},
    "outputs": {"y": {"shape": [-1], "type": "uint8"}},
}


def _marked(x: Any) -> Any:
    return np.char.add("u:" if any(ord(letter) > 127 for text in x for letter in text) else "a:", x)


DEPENDENT: dict[str, tuple[Any, Any]] = {
    "tells seconds from milliseconds by the largest": (TIMES, lambda x: x // 1000 if x.max() > 10**11 else x),
    "scales pixels by the largest": (MATRIX, lambda x: (x / 256.0 if x.max() > 255 else x).mean(axis=1)),
    "inverts bright images": (BYTES, lambda x: 255 - x if x.max() > 127 else x),
    "looks for infinite values": (MATRIX, lambda x: np.full(len(x), float(np.isinf(x).any()))),
    "looks for other alphabets": (TEXTS, _marked),
    "looks whether all are numbers": (TEXTS, lambda x: np.char.add("n" if all(t.isdigit() for t in x) else "w", x)),
    "scales by the largest value": (MATRIX, lambda x: (x / 255.0 if x.max() > 1.0 else x).mean(axis=1)),
    "fills NaN with the column's mean": (MATRIX, _fill),
    "sorts rows": (MATRIX, lambda x: np.sort(x, axis=0).mean(axis=1)),
    "ranks rows": (MATRIX, lambda x: x[:, 0].argsort().argsort().astype(float)),
    "centres columns": (MATRIX, lambda x: (x - x.mean(axis=0)).mean(axis=1)),
    "standardises columns": (MATRIX, lambda x: (x / (x.std(axis=0) + 1)).mean(axis=1)),
    "numbers distinct rows": (MATRIX, _unique),
    "sums up": (MATRIX, lambda x: np.cumsum(x, axis=0)[:, 0]),
    "clips at a quantile": (MATRIX, lambda x: np.minimum(x, np.quantile(x, 0.5, axis=0)).mean(axis=1)),
    "compares with the row before": (MATRIX, lambda x: np.diff(x[:, 0], prepend=x[0, 0])),
    "counts negative rows": (MATRIX, lambda x: x[:, 0] * 0 + (x[:, 0] < 0).sum()),
    "takes the type of the largest": (MATRIX, lambda x: x[:, 0] if np.abs(x).max() < 50 else np.round(x[:, 0])),
    "pads to the longest text": (TEXTS, lambda x: np.char.ljust(x, max(map(len, x)))),
    "sorts texts": (TEXTS, np.sort),
}


@pytest.mark.parametrize("what", DEPENDENT)
def test_the_trial_refuses_rows_that_depend_on_each_other(what: str, caplog: pytest.LogCaptureFixture) -> None:
    promise, function = DEPENDENT[what]

    class Model(RuntimeService):
        batch_max_size = 8

        def Predict(self, request: Request, context: Context) -> Any:
            return {"y": function(request.inputs["x"])}

    assert predictor(Model, promise).batch_limit == 1
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "rows are not independent: " in record.reason  # type: ignore[attr-defined]


INDEPENDENT: dict[str, tuple[Any, Any]] = {
    "a mean": (MATRIX, lambda x: x.mean(axis=1)),
    "a matrix product": (MATRIX, lambda x: (x @ np.linspace(0, 1, 12).reshape(4, 3)).max(axis=1)),
    "a softmax within the row": (MATRIX, lambda x: (np.exp(x - x.max(1, keepdims=True)))[:, 0]),
    "a product in single precision": (MATRIX, lambda x: (x.astype("f4") @ np.ones((4, 1), "f4"))[:, 0].astype(float)),
    "only numbers": (MATRIX, lambda x: 1 / 0 if np.isnan(x).any() else x.sum(axis=1)),
    "only small numbers": (MATRIX, lambda x: 1 / 0 if (np.abs(x) > 10).any() else x.sum(axis=1)),
    "upper case": (TEXTS, np.char.upper),
}


@pytest.mark.parametrize("what", INDEPENDENT)
def test_the_trial_lets_independent_rows_pass(what: str) -> None:
    promise, function = INDEPENDENT[what]

    class Model(RuntimeService):
        batch_max_size = 8

        def Predict(self, request: Request, context: Context) -> Any:
            return {"y": function(request.inputs["x"])}

    with np.errstate(all="ignore"):
        assert predictor(Model, promise).batch_limit == 8


@pytest.mark.parametrize("kind", ["int32", "uint8", "bool", "float16", "float32", "complex64", "string"])
def test_the_trial_makes_up_rows_of_every_type(kind: str) -> None:
    field = {"shape": [-1, 2], "type": kind}

    class Echo(RuntimeService):
        batch_max_size = 8

        def Predict(self, request: Request, context: Context) -> Any:
            return {"y": request.inputs["x"]}

    assert predictor(Echo, {"name": "f", "inputs": {"x": field}, "outputs": {"y": field}}).batch_limit == 8


def test_nothing_is_batched_that_nobody_asked_for(serve: Any) -> None:
    """The worst fault that was found: with default settings half of the callers got an answer of other callers' data."""
    code = """
    import time

    def predict(image):
        if image.max() > 1.0:
            image = image / 255.0
        time.sleep(0.02)
        return {"brightness": image.mean(axis=1)}
    """
    promise = {
        "name": "predict",
        "inputs": {"image": {"shape": [-1, 4], "type": "double"}},
        "outputs": {"brightness": {"shape": [-1], "type": "double"}},
    }
    client = serve(code, promise, batch_max_size=Settings().batch_max_size)

    def ask(value: float) -> float:
        return float(client.predict({"image": tensors.tensor(np.full((1, 4), value))})["brightness"][0])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, [0.5, 255.0] * 32))
    assert answers == [0.5, 1.0] * 32


def test_the_setting_takes_precedence_over_the_function_and_the_function_over_the_class(tmp_path: Path) -> None:
    code = "def f(x):\n    return {'y': x}\n\nf.batch_max_size = 16\n"

    class Custom(RuntimeService):
        batch_max_size = 4

    service = Custom(model_directory(tmp_path, code, VECTOR), contract.parse(VECTOR))
    service.load()
    assert service.batch_limit("f") == 16
    for setting, limit in ((0, 16), (1, 1), (32, 32)):
        service.options = ModelOptions(batch_max_size=setting)
        assert service.batch_limit("f") == limit
    del service._functions["f"].batch_max_size  # type: ignore[attr-defined]
    service.options = ModelOptions()
    assert service.batch_limit("f") == 4


@pytest.mark.parametrize("size", ["'many'", "-1", "256", "True", "1.5"])
def test_a_function_that_asks_for_nonsense_is_refused(tmp_path: Path, size: str) -> None:
    code = f"def f(x):\n    return {{'y': x}}\n\nf.batch_max_size = {size}\n"
    service = RuntimeService(model_directory(tmp_path, code, VECTOR), contract.parse(VECTOR))
    with pytest.raises(ModelImportFailed, match=r"f.batch_max_size: expected a whole number from 0 to 255, got"):
        service.load()


def test_a_model_asks_for_batching_in_its_code(serve: Any) -> None:
    code = """
    import time
    CALLS = []

    def f(x):
        CALLS.append(len(x))
        time.sleep(0.05)
        return {"y": x * 2}

    f.batch_max_size = 64
    """
    client = serve(code, VECTOR, batch_max_size=0)
    started = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda x: client.predict({"x": tensors.tensor(np.array([float(x)]))}), range(40)))
    assert [answer["y"].tolist() for answer in answers] == [[2.0 * x] for x in range(40)]
    assert time.monotonic() - started < 40 * 0.05 * 3 / 4  # one by one it would be all of it


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
    assert predictor(Sums, {**PROMISE, **change}).batch_limit == 1


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
