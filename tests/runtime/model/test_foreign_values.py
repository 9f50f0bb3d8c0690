"""What a model returns is foreign code too: whatever it raises fails its own call, names the output, and nothing else."""

from __future__ import annotations

import itertools
from collections import UserDict, UserList
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from model_runtime import contract, tensors
from model_runtime.contract import DataType
from model_runtime.errors import ModelFailure, OutputMismatch, PredictionError
from model_runtime.model.config import ModelOptions
from model_runtime.model.service import Context, Request, RuntimeService
from model_runtime.outcome import Call
from model_runtime.prediction import Predictor

ERA = tensors.ERAS["v2"]
X = {"x": {"shape": [-1], "type": "double"}}


class Panic(BaseException):
    """As Rust's extensions raise."""

    def __str__(self) -> str:
        raise Panic


def raising(error: BaseException, *methods: str) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return type("Hostile", (), dict.fromkeys(methods, fail))()


class Endless:
    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: int) -> float:
        return 1.0

    def __iter__(self) -> Iterator[float]:
        return itertools.repeat(1.0)


class Huge(Endless):
    def __len__(self) -> int:
        return 1 << 62


class EndlessDict(dict[str, Any]):
    def items(self) -> Any:
        return ((f"n{at}", 1.0) for at in itertools.count())


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("no attributes")


class Masked(metaclass=Meta):
    @property
    def __class__(self) -> Any:
        raise Panic


class Key(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    __hash__ = str.__hash__


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def doubled() -> list[Any]:
    value: list[Any] = [1.0] * 8
    for _ in range(30):
        value = [value] * 8
    return value


ERRORS = [
    RuntimeError("grad"),
    Panic(),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    MemoryError(),
    RecursionError(),
]
METHODS = [
    ("__array__",),
    ("__len__", "__getitem__"),
    ("__array_interface__",),
    ("__float__", "__array__"),
    ("__buffer__", "__array__"),
]
HOSTILE: dict[str, Callable[[], Any]] = {
    **{
        f"{methods[0]} raises {type(error).__name__}": (lambda error=error, methods=methods: raising(error, *methods))
        for error in ERRORS
        for methods in METHODS
    },
    "endless": Endless,
    "huge": Huge,
    "endless within a list": lambda: [Endless(), Endless()],
    "a list of itself": itself,
    "lists that double": doubled,
    "a hidden class": Masked,
    "a generator": lambda: (value for value in [1.0]),
    "an endless generator": itertools.count,
    "a set": lambda: {1.0},
    "a function": lambda: len,
    "None": lambda: None,
    "dates": lambda: np.array(["2020-01-01"], "datetime64[D]"),
    "records": lambda: np.zeros(2, [("a", "f8"), ("b", "i4")]),
    "void": lambda: np.zeros(2, "V5"),
    "objects": lambda: np.array([object(), 1.0], object),
    "text": lambda: ["1"],
    "masked": lambda: np.ma.array([1.0, 2.0], mask=[True, False]),
    "a large integer": lambda: 10**5000,
    "a buffer": lambda: memoryview(b"abc").cast("c"),
}


class Returns(RuntimeService):
    """Answers with whatever it is told to."""

    value: Callable[[], Any]

    def Predict(self, request: Request, context: Context) -> Any:
        return self.value()


def predictor(value: Callable[[], Any], outputs: Any = X, **options: Any) -> Predictor:
    service = Returns("/nowhere", contract.parse({"name": "f", "inputs": X, "outputs": outputs}))
    service.options = ModelOptions(**options)
    service.value = value
    return Predictor(service)


def request() -> Call:
    return Call(ERA.predict, tensors.encode_request(ERA, tensors.Request({"x": tensors.tensor(np.ones(1))})))


def failure(made: Predictor) -> PredictionError:
    [outcome] = made.handle_all([request()])
    assert isinstance(outcome.result, PredictionError)
    return outcome.result


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_output_is_a_mismatch_that_names_it(name: str) -> None:
    error = failure(predictor(lambda: {"x": HOSTILE[name]()}))

    assert isinstance(error, OutputMismatch)
    assert [violation.path for violation in error.violations] == ["outputs.x"]
    assert error.violations[0].message.startswith("expected ")


@pytest.mark.parametrize("dtype", ["any", "string", "int8", "complex64"])
@pytest.mark.parametrize(
    "name", [name for name in HOSTILE if " raises " in name or "endless" in name or "itself" in name]
)
def test_a_hostile_output_fails_whatever_its_type_should_be(name: str, dtype: str) -> None:
    error = failure(predictor(lambda: {"x": HOSTILE[name]()}, {"x": {"shape": [-1], "type": dtype}}))

    assert isinstance(error, OutputMismatch)
    assert [violation.path for violation in error.violations] == ["outputs.x"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "None"])
def test_a_hostile_result_is_a_mismatch(name: str) -> None:
    assert isinstance(failure(predictor(HOSTILE[name])), OutputMismatch)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_within_a_map_names_its_place(name: str) -> None:
    outputs = {"m": {"shape": [-1], "fields": {"x": {"shape": [-1], "type": "double"}}}}
    error = failure(predictor(lambda: {"m": [{"x": HOSTILE[name]()}]}, outputs))

    assert isinstance(error, OutputMismatch)
    assert error.violations[0].path == "outputs.m[0].x"


@pytest.mark.parametrize(
    "result",
    [
        lambda: EndlessDict(x=[1.0]),
        lambda: raising(RuntimeError("no items"), "items"),
        lambda: (_ for _ in ()),
        lambda: [1.0],
        lambda: {"y": [1.0]},
        lambda: {},
    ],
)
def test_a_result_that_is_no_mapping_of_the_outputs_is_a_mismatch(result: Callable[[], Any]) -> None:
    assert isinstance(failure(predictor(result)), OutputMismatch)


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_a_function_raises_fails_its_call(error: BaseException) -> None:
    def fail() -> Any:
        raise error

    assert isinstance(failure(predictor(fail)), ModelFailure)


@pytest.mark.parametrize(
    "result",
    [
        {"x": [2.0], 1: 0, None: 0, ("a",): 0},
        {"x": [2.0], Key("x2"): 0, "z": object()},
        UserDict({"x": UserList([2.0])}),
        {"x": (2.0,)},
        {"x": np.ma.array([2.0])},
        {"x": range(2, 3)},
        {"x": type("Array", (np.ndarray,), {"reshape": None, "astype": None})((1,), buffer=np.array([2.0]))},
        {"x": type("Float", (float,), {"__repr__": None, "__len__": None})(2.0)},
    ],
)
def test_what_can_be_read_is_an_answer(result: Any) -> None:
    [outcome] = predictor(lambda: result).handle_all([request()])

    assert isinstance(outcome.result, bytes)
    assert tensors.decode_response(ERA, outcome.result)["x"].values.tolist() == [2.0]


def test_a_subclass_of_bytes_cannot_break_the_message() -> None:
    liar = type("Liar", (bytes,), {"__len__": lambda self: 1, "__bytes__": lambda self: b"other"})
    made = predictor(lambda: {"s": [liar(b"abc")]}, {"s": {"shape": [-1], "type": "string"}})

    [outcome] = made.handle_all([request()])

    assert tensors.decode_response(ERA, outcome.result)["s"].values.tolist() == [b"abc"]


def test_without_details_a_caller_never_reads_what_the_models_code_says() -> None:
    secret = raising(RuntimeError("the password"), "__array__")

    shown = failure(predictor(lambda: {"x": secret}))
    hidden = failure(predictor(lambda: {"x": secret}, error_details=False))

    assert "the password" in str(shown)
    assert "the password" not in str(hidden)
    assert "RuntimeError" in str(hidden)


def test_new_names_in_every_answer_are_remembered_up_to_a_limit() -> None:
    numbers = itertools.count()
    made = predictor(lambda: {"x": [1.0], f"n{next(numbers)}": 0})
    for _ in range(300):
        made.handle_all([request()])

    assert len(made._undeclared) == 100


@pytest.mark.parametrize(
    "value",
    [
        np.array(["a", "bé"], dtype=getattr(getattr(np, "dtypes", None), "StringDType", lambda: "U2")()),
        np.array(["a", "bé".encode()], object),
        [b"a", "bé"],
        [bytearray(b"a"), memoryview("bé".encode())],
        np.array([memoryview(b"a"), "bé"], object),
    ],
)
def test_text_is_text_whatever_holds_it(value: Any) -> None:
    assert tensors.tensor(value, DataType.STRING).values.tolist() == [b"a", "bé".encode()]


def test_the_process_goes_on_beside_a_hostile_value(serve: Any, tmp_path: Path) -> None:
    code = """
    import time
    class Panic(BaseException): pass
    class X:
        def __array__(self, *_, **__): raise Panic("grad")
    def f(x):
        time.sleep(0.01)
        return {"x": X() if x[0] < 0 else x}
    """
    client = serve(code, {"name": "f", "inputs": X, "outputs": X})
    before = client.runtime._host.pids()

    def ask(value: float) -> Any:
        try:
            return client.predict({"x": tensors.tensor(np.array([value]))})["x"].tolist()
        except grpc.RpcError as error:
            return error.code()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [-1.0 if at % 10 == 0 else float(at) for at in range(60)]))

    expected = [grpc.StatusCode.INTERNAL if at % 10 == 0 else [float(at)] for at in range(60)]
    assert answers == expected
    assert client.runtime._host.pids() == before
