"""One prediction between engine and host: whatever foreign code raises, its place is given back once and its caller hears."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from serving import model_directory

from model_runtime import RuntimeManager
from model_runtime.client import Client
from model_runtime.errors import InvalidRequest, ModelFailure, Overloaded, PredictionError, Violation
from model_runtime.model.service import RuntimeService
from model_runtime.outcome import Outcome
from model_runtime.server import codes
from model_runtime.server.methods import Gate, Predict
from model_runtime.settings import Settings

PATH = "/tensorflow.serving.PredictionService/Predict"


class OwnRefusal(InvalidRequest):
    """What a custom runtime may raise."""


class Unspeakable(ModelFailure):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Context:
    """As much of a gRPC context as a prediction asks."""

    def time_remaining(self) -> None:
        return None

    def add_callback(self, _callback: Callable[[], None]) -> bool:
        return True


class Broken:
    """An observer that fails at the end."""

    def begin(self, _path: str, _size: int, _context: Any) -> Callable[[Outcome], None]:
        def end(_outcome: Outcome) -> None:
            raise SystemExit(3)

        return end


def predicted(submit: Callable[..., None], gate: Gate, *observers: Any) -> list[Any]:
    results: list[Any] = []
    Predict(PATH, submit, gate, observers)(b"request", Context(), results.append)  # type: ignore[arg-type]
    return results


@pytest.mark.parametrize("raised", [RuntimeError("x"), SystemExit(1), KeyboardInterrupt(), OwnRefusal("x")])
def test_a_host_that_raises_costs_no_place(raised: BaseException) -> None:
    gate = Gate(1, 1000)

    def submit(*_: Any) -> None:
        raise raised

    for _ in range(3):
        [result] = predicted(submit, gate)
        assert isinstance(result, PredictionError)
    assert (gate.calls, gate.bytes) == (0, 0)


def test_a_host_that_answers_twice_gives_back_one_place() -> None:
    gate = Gate(10, 1000)

    def submit(
        _method: str, _request: bytes, _timeout: Any, _cancellation: Any, done: Callable[[Outcome], None]
    ) -> None:
        done(Outcome(b"first"))
        done(Outcome(b"second"))
        raise RuntimeError("and raises")

    assert predicted(submit, gate) == [b"first"]
    assert (gate.calls, gate.bytes) == (0, 0)


def test_an_observer_that_fails_costs_neither_answer_nor_place() -> None:
    gate = Gate(10, 1000)

    assert predicted(lambda *given: given[4](Outcome(b"answer")), gate, Broken(), Broken()) == [b"answer"]
    assert (gate.calls, gate.bytes) == (0, 0)


def test_a_closed_gate_is_unavailable() -> None:
    gate = Gate(10, 1000)
    gate.close()

    [result] = predicted(lambda *_: None, gate)

    assert codes.code(result) is grpc.StatusCode.UNAVAILABLE


def test_a_gate_is_open_to_a_lone_request_of_any_size_and_to_as_many_as_fit() -> None:
    gate = Gate(3, 100)
    gate.enter(1000)
    with pytest.raises(Overloaded, match="MAX_QUEUE_BYTES"):
        gate.enter(1)
    gate.leave(1000)
    for _ in range(3):
        gate.enter(10)
    with pytest.raises(Overloaded, match="MAX_QUEUE"):
        gate.enter(10)


# Statuses ------------------------------------------------------------------------------------------------------------


def test_a_subclass_has_the_status_and_the_reason_of_its_ancestor() -> None:
    status = codes.status(OwnRefusal("not with me", [Violation("inputs.x", "expected less")]))
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()

    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.details[0].Unpack(info)
    assert info.reason == "InvalidRequest"
    assert status.details[1].Unpack(request)
    assert request.field_violations[0].field == "inputs.x"


@pytest.mark.parametrize("text", ["\ud800 alone", "a" * 100_000, "ß" * 100_000, "\x00", ""])
def test_any_text_makes_a_status(text: str) -> None:
    status = codes.status(ModelFailure(text, [Violation(text, text)] * 1000))

    assert len(status.SerializeToString()) < 6000


def test_an_error_that_cannot_say_what_it_is_has_its_status_still() -> None:
    error = Unspeakable.__new__(Unspeakable)
    error.violations = ()

    assert codes.status(error).code == code_pb2.INTERNAL


def test_as_many_violations_are_listed_as_fit() -> None:
    many = [Violation(f"inputs.x{number}", "unknown") for number in range(2000)]
    request = error_details_pb2.BadRequest()
    codes.status(InvalidRequest("no", many)).details[1].Unpack(request)
    listed = request.field_violations

    assert listed[0].field == "inputs.x0"
    assert listed[-1].description == f"only the first {len(listed) - 1} are listed"


class Refusing(RuntimeService):
    """A custom runtime with an error of its own."""

    def Predict(self, request: Any, context: Any) -> Any:
        raise OwnRefusal("not with me")


@pytest.mark.usefixtures("undo_model_loading")
def test_a_custom_runtimes_own_refusal_costs_no_place_and_is_the_clients_fault(tmp_path: Path) -> None:
    chosen = Settings(max_queue=3, isolation="none", warmup=False)
    with RuntimeManager(model_directory(tmp_path), 0, service=Refusing, settings=chosen) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            for _ in range(10):
                with pytest.raises(grpc.RpcError) as refused:
                    client.call(PATH)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert runtime._gate.calls == 0


def test_places_are_given_back_from_many_threads_at_once() -> None:
    gate = Gate(1000, 10**9)

    def come_and_go() -> None:
        for _ in range(2000):
            predicted(lambda *given: given[4](Outcome(b"")), gate)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (gate.calls, gate.bytes) == (0, 0)
