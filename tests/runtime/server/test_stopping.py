"""The stop under load: what crosses it ends UNAVAILABLE, what was in flight is answered."""

from __future__ import annotations

import collections
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from attacks import PREDICT, Connection
from authorities import Authority
from serving import Program, model_directory

from model_runtime import client as clients
from model_runtime import tensors
from model_runtime.client import Client

X = {"x": tensors.tensor(np.array([1.0]))}
REQUEST = tensors.encode_request(tensors.ERAS["v2"], tensors.Request(X))
SLOW_CALL = "import time\n\ndef echo(x):\n    time.sleep(x[0])\n    return {'y': x}\n"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


def call_until(stop: threading.Event, port: int, codes: collections.Counter[str], ca: Path | None = None) -> None:
    """Eight calls at a time over one connection, until the server is gone."""
    with (
        grpc.secure_channel(f"localhost:{port}", clients.credentials(ca, None, None), OPTIONS)
        if ca
        else grpc.insecure_channel(f"localhost:{port}", OPTIONS)
    ) as channel:
        predict = channel.unary_unary(PREDICT)
        while not stop.is_set():
            for call in [predict.future(REQUEST, timeout=20) for _ in range(8)]:
                try:
                    call.result()
                    codes["OK"] += 1
                except grpc.RpcError as error:
                    codes[error.code().name] += 1
                except grpc.FutureCancelledError:
                    codes["CANCELLED"] += 1


@pytest.mark.parametrize("drain", ["0", "0.3"])
def test_calls_that_cross_the_stop_end_unavailable(tmp_path: Path, drain: str) -> None:
    codes: collections.Counter[str] = collections.Counter()
    model = model_directory(tmp_path)
    for _ in range(4):
        stop = threading.Event()
        with Program(model, DRAIN_DELAY_SECONDS=drain, WARMUP="false") as program, ThreadPoolExecutor(6) as pool:
            program.wait_serving()
            for _ in range(6):
                pool.submit(call_until, stop, program.port, codes)
            time.sleep(0.3)
            program.terminate()
            status, _ = program.end()
            stop.set()
        assert status == 0

    assert codes["OK"] > 100
    assert set(codes) <= {"OK", "UNAVAILABLE"}


def test_over_tls_calls_that_cross_the_stop_end_unavailable(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    codes: collections.Counter[str] = collections.Counter()
    stop = threading.Event()
    files = {"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)}
    with Program(model_directory(tmp_path / "model"), **files) as program, ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(call_until, stop, program.port, codes, authority.ca)
        until = time.monotonic() + 30
        while codes["OK"] < 100 and time.monotonic() < until:
            time.sleep(0.05)
        program.terminate()
        status, _ = program.end()
        stop.set()

    assert status == 0
    assert codes["OK"] >= 100
    assert set(codes) == {"OK", "UNAVAILABLE"}


def test_a_stop_answers_what_is_in_flight_and_refuses_what_comes_after(serve: Any) -> None:
    client = serve(SLOW_CALL)
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(client.predict, {"x": tensors.tensor(np.array([1.0]))})
        time.sleep(0.3)
        stopping = pool.submit(client.runtime.stop)
        time.sleep(0.2)
        with pytest.raises(grpc.RpcError) as late:
            client.predict(X)
        with Client(client.target, timeout=2) as newcomer, pytest.raises(grpc.RpcError) as refused:
            newcomer.predict(X)
        stopping.result(10)

    assert answer.result()["y"].tolist() == [1.0]
    assert late.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_call_that_outlives_the_grace_ends_unavailable(serve: Any) -> None:
    client = serve(SLOW_CALL, grace_seconds=0.5)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.predict, {"x": tensors.tensor(np.array([30.0]))})
        time.sleep(0.3)
        began = time.monotonic()
        client.runtime.stop()
        with pytest.raises(grpc.RpcError) as ended:
            answer.result(10)

    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "GRACE_SECONDS" in (ended.value.details() or "")
    assert time.monotonic() - began < 8  # the model itself is given five


def test_a_half_sent_request_is_refused_at_a_stop(serve: Any) -> None:
    client = serve()
    with Connection(client.runtime.port) as connection:
        stream = connection.begin(PREDICT)
        connection.flush()
        assert client.predict(X)["y"].tolist() == [1.0]
        stopping = threading.Thread(target=client.runtime.stop)
        stopping.start()

        ending = connection.ending(stream)
        stopping.join()

    assert ending["grpc-status"] == str(grpc.StatusCode.UNAVAILABLE.value[0])
