"""The image's program as a process: how it starts, what it says when it cannot, and how it stops."""

from __future__ import annotations

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import ECHO_CONTRACT, Program, free_port, model_directory

from model_runtime import contract, tensors

X = {"x": tensors.tensor(np.array([1.0]))}
SLOW_LOAD = """
import pathlib, time

while not pathlib.Path("go").exists():
    time.sleep(0.05)

def echo(x):
    return {'y': x}
"""
SLOW_CALL = "import time\n\ndef echo(x):\n    time.sleep(1.5)\n    return {'y': x}\n"


def ending(model: Path, **environment: str) -> tuple[int, str]:
    with Program(model, **environment) as program:
        status, errors = program.end()
    lines = [line for line in errors.splitlines() if "ERROR" in line]
    assert len(lines) == 1, errors
    assert "Traceback" not in errors
    return status, lines[0]


def test_health_goes_from_not_serving_to_serving_to_not_serving(tmp_path: Path) -> None:
    model = model_directory(tmp_path, SLOW_LOAD)
    with (
        Program(model, DRAIN_DELAY_SECONDS="0.5") as program,
        grpc.insecure_channel(f"localhost:{program.port}") as channel,
    ):
        grpc.channel_ready_future(channel).result(20)
        seen = []
        for answer in health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="hydrosphere.serving.runtime.PredictionService"), wait_for_ready=True
        ):
            seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
            (model / "files" / "go").touch()
            if seen[-1] == "SERVING":
                program.terminate()
            if len(seen) == 3:
                break
        status, _ = program.end()

    assert seen == ["NOT_SERVING", "SERVING", "NOT_SERVING"]
    assert status == 0


def test_while_the_model_loads_the_process_is_alive_and_says_so_to_the_manager(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, SLOW_LOAD)) as program, program.client() as client:
        grpc.channel_ready_future(client.channel).result(20)

        assert client.health("") == "SERVING"
        assert client.health("readiness") == "NOT_SERVING"
        assert b"loaded" in client.call("/tensorflow.serving.PredictionService/Status")
        with pytest.raises(grpc.RpcError) as failure:
            client.predict(X)
        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_server_never_loads_numpy_which_only_the_model_needs(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), METRICS_PORT=str(free_port())) as program, program.client() as client:
        program.wait_serving()
        answer = client.predict(X)
        mapped = Path(f"/proc/{program.process.pid}/maps").read_text()

    assert answer["y"].tolist() == [1.0]
    assert "grpc" in mapped
    assert "numpy" not in mapped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_when_the_signal_arrives_is_answered(tmp_path: Path, number: signal.Signals) -> None:
    with Program(model_directory(tmp_path, SLOW_CALL)) as program:
        program.wait_serving()
        with program.client() as client, ThreadPoolExecutor(1) as pool:
            answer = pool.submit(client.predict, X)
            time.sleep(0.5)
            program.process.send_signal(number)
            assert answer.result()["y"].tolist() == [1.0]
        status, _ = program.end()

    assert status == 0


def test_during_the_drain_delay_new_requests_are_still_answered(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), DRAIN_DELAY_SECONDS="2") as program:
        program.wait_serving()
        program.terminate()
        time.sleep(0.5)
        with program.client() as client:
            assert client.health("tensorflow.serving.PredictionService") == "NOT_SERVING"
            assert client.predict(X)["y"].tolist() == [1.0]
        assert program.end()[0] == 0


def test_a_client_that_is_connected_may_stay_until_it_leaves(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), DRAIN_LIMIT_SECONDS="60") as program:
        program.wait_serving()
        with program.client() as client:
            client.predict(X)
            program.terminate()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                assert client.predict(X)["y"].tolist() == [1.0]
            assert program.process.poll() is None
        assert program.end(20)[0] == 0


def test_a_client_that_never_leaves_is_left_at_the_drain_limit(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), DRAIN_LIMIT_SECONDS="1") as program:
        program.wait_serving()
        with program.client() as client:
            client.predict(X)
            program.terminate()
            assert program.end(20)[0] == 0


def test_a_signal_while_the_model_loads_ends_the_program(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, "import time\n\ntime.sleep(60)\n")) as program:
        with grpc.insecure_channel(f"localhost:{program.port}") as channel:
            grpc.channel_ready_future(channel).result(20)
        program.terminate()

        assert program.end(10)[0] == 0


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, line = ending(model_directory(tmp_path), APP_PORT=str(port))

    assert status == 5
    assert f"port {port} of [::] is taken by another process" in line


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("APP_PORT", "99999", "APP_PORT: expected a whole number from 1 to 65535, got '99999'"),
        ("APP_PORT", "http", "APP_PORT: expected a whole number from 1 to 65535, got 'http'"),
        ("MODEL_CONVENTION", "tensors", "MODEL_CONVENTION: expected auto or numpy or messages, got 'tensors'"),
        ("GRACE_SECONDS", "soon", "GRACE_SECONDS: expected seconds from 0 to 3600, got 'soon'"),
        ("TLS_CERT_FILE", "/no/such.pem", "TLS_CERT_FILE: expected a file that exists, got '/no/such.pem'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path, variable: str, value: str, text: str) -> None:
    status, line = ending(model_directory(tmp_path), **{variable: value})

    assert status == 2
    assert text in line


def test_a_missing_model_directory_is_named(tmp_path: Path) -> None:
    status, line = ending(tmp_path / "nothing")

    assert status == 3
    assert f"model directory {tmp_path / 'nothing'}: expected a directory with contract.protobin" in line


def test_a_missing_contract_is_named(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()

    status, line = ending(tmp_path)

    assert status == 3
    assert (
        f"{tmp_path / 'contract.protobin'}: expected the model's contract, found none (the directory holds files)"
        in line
    )


def test_a_broken_contract_is_named(tmp_path: Path) -> None:
    model = model_directory(tmp_path)
    (model / "contract.protobin").write_bytes(b"\x0a\xff nothing like it")

    status, line = ending(model)

    assert status == 3
    assert "contract.protobin is no ModelContract and no ModelSignature" in line


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (
            "import no_such_library\n",
            "ModelImportFailed",
            "No module named 'no_such_library' (files/src/func_main.py, line 1)",
        ),
        (
            "def echo(x)\n    return x\n",
            "ModelImportFailed",
            "SyntaxError: expected ':' (files/src/func_main.py, line 1)",
        ),
        ("raise SystemExit(7)\n", "ModelImportFailed", "SystemExit: 7 (files/src/func_main.py, line 1)"),
        (
            "def other(x):\n    return x\n",
            "FunctionMissing",
            "names the function 'echo', expected among the module's functions: other",
        ),
        ("echo = 3\n", "FunctionMissing", "names the function 'echo', which is int and cannot be called"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, code: str, reason: str, text: str) -> None:
    termination_log = tmp_path / "termination-log"
    termination_log.touch()

    model = model_directory(tmp_path / "model", code)
    with Program(model, TERMINATION_LOG=str(termination_log)) as program:
        status, errors = program.end()

    assert status == 4
    assert text in errors
    assert termination_log.read_text().startswith(f"{reason}: ")
    assert text in termination_log.read_text()


def test_missing_code_is_named(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "contract.protobin").write_bytes(contract.write(contract.parse(ECHO_CONTRACT)))

    with Program(tmp_path) as program:
        status, errors = program.end()

    assert status == 3
    assert f"{tmp_path}/files/src/func_main.py: expected the model's code, found none" in errors


def test_a_model_that_cannot_be_loaded_is_reported_for_a_while_before_the_end(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path, "import no_such_library\n"), LOAD_FAILURE_SECONDS="2") as program:
        with program.client() as client:
            grpc.channel_ready_future(client.channel).result(20)
            end = time.monotonic() + 10
            while b"no_such_library" not in (status := client.call("/tensorflow.serving.PredictionService/Status")):
                assert time.monotonic() < end, status
                time.sleep(0.02)
        assert status[:2] == b"\x08\x02"  # NOT_SERVING
        assert program.end()[0] == 4


def test_ports_are_never_shared_silently(tmp_path: Path) -> None:
    port = free_port()
    model = model_directory(tmp_path)
    with Program(model, port=port) as first:
        first.wait_serving()
        status, line = ending(model, APP_PORT=str(port))

    assert status == 5
    assert "is taken" in line


def test_connections_are_renewed_without_losing_a_call(tmp_path: Path) -> None:
    with Program(model_directory(tmp_path), MAX_CONNECTION_AGE_SECONDS="0.5") as program:
        program.wait_serving()
        with program.client() as client:
            end = time.monotonic() + 3
            answers = 0
            while time.monotonic() < end:
                assert client.predict(X)["y"].tolist() == [1.0]
                answers += 1
        program.terminate()

        assert program.end()[0] == 0
    assert answers > 100
