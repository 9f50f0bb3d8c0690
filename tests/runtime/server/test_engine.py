"""Both ways in which a prediction may run: in grpcio's own thread, and in a thread of the call where grpcio is made otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from model_runtime import tensors
from model_runtime.server import engine
from model_runtime.tensors import ERAS

X = {"x": tensors.tensor(np.array([2.0]))}
SLOW = "import time\n\ndef echo(x):\n    time.sleep(x[0] / 10)\n    return {'y': x}\n"


@pytest.fixture(params=["direct", "threads"])
def either(request: pytest.FixtureRequest, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serves by one engine or the other."""
    if request.param == "threads":
        monkeypatch.setitem(engine._PARTS, "_no_such_part", "state")
    return serve


def code_of(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_this_grpcio_has_what_the_fast_engine_stands_on() -> None:
    assert isinstance(engine.executor(), engine.Direct)


def test_a_grpcio_made_otherwise_is_told_of_and_predictions_take_threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(engine._PARTS, "_no_such_part", "state")
    monkeypatch.setitem(engine._PARTS, "_status", "rpc_event state response trailers")

    executor = engine.executor()

    assert not isinstance(executor, engine.Direct)
    assert [record.unknown for record in caplog.records] == [["_status", "_no_such_part"]]


def test_probes_do_not_wait_behind_predictions(either: Any) -> None:
    client = either(SLOW)
    raw = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    request = tensors.encode_request(ERAS["v2"], tensors.Request({"x": tensors.tensor(np.array([1.0]))}))
    calls = [raw.future(request, timeout=60) for _ in range(100)]
    time.sleep(0.2)
    started = time.monotonic()

    assert client.health() == "SERVING"
    assert time.monotonic() - started < 2.0  # a hundred calls take ten seconds
    for call in calls:
        call.cancel()


def test_where_calls_take_threads_there_are_no_streams(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine._PARTS, "_no_such_part", "state")
    watch = serve().channel.unary_stream("/grpc.health.v1.Health/Watch")

    assert code_of(lambda: list(watch(b"", timeout=10))) == "UNIMPLEMENTED"  # which clients take for healthy


def test_many_calls_at_once_get_each_their_own_answer(either: Any) -> None:
    client = either(batch_max_size=64)
    with ThreadPoolExecutor(32) as pool:
        answers = list(
            pool.map(
                lambda x: client.predict({"x": tensors.tensor(np.array([x]))})["y"].tolist(), map(float, range(2000))
            )
        )

    assert answers == [[float(x)] for x in range(2000)]


def test_requests_larger_than_a_socket_takes_arrive_whole_and_in_order(either: Any) -> None:
    client = either()
    large = np.random.default_rng(1).normal(size=300_000)
    sent = [large + x if x % 2 else np.array([float(x)]) for x in range(24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: client.predict({"x": tensors.tensor(x)})["y"], sent))

    for x, answer in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(answer, x)


def test_errors_carry_their_status_and_violations(either: Any) -> None:
    client = either()

    assert code_of(lambda: client.predict({"z": X["x"]})) == "INVALID_ARGUMENT"
    assert code_of(lambda: client.predict({})) == "INVALID_ARGUMENT"
    assert code_of(lambda: client.predict(X)) == "OK"


def test_a_call_without_a_message_is_refused(either: Any) -> None:
    client = either()
    streaming = client.channel.stream_unary("/tensorflow.serving.PredictionService/Predict")

    assert code_of(lambda: streaming(iter(()), timeout=10)) == "UNIMPLEMENTED"
    assert code_of(lambda: client.predict(X)) == "OK"


def test_calls_that_are_given_up_leave_the_model_to_others(either: Any) -> None:
    client = either(SLOW)
    raw = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    request = tensors.encode_request(ERAS["v2"], tensors.Request({"x": tensors.tensor(np.array([3.0]))}))
    calls = [raw.future(request, timeout=30) for _ in range(20)]
    time.sleep(0.2)
    started = time.monotonic()
    for call in calls[1:]:
        call.cancel()
    answer = client.predict({"x": tensors.tensor(np.array([0.0]))})["y"].tolist()

    assert answer == [0.0]
    assert time.monotonic() - started < 2.0  # twenty calls would take six seconds
    calls[0].result(10)


def test_a_stop_waits_for_the_call_in_flight_and_ends_every_thread(either: Any) -> None:
    before = threading.active_count()
    client = either(SLOW)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.predict, {"x": tensors.tensor(np.array([5.0]))})
        time.sleep(0.2)
        client.runtime.stop()
        assert call.result(10)["y"].tolist() == [5.0]
    end = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < end:  # the client's own thread stays
        time.sleep(0.05)
    assert threading.active_count() <= before + 1
