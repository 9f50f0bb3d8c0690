"""What operators of a runtime see of it: metrics, traces, logs, and probes that are computed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from authorities import Authority
from serving import Program, free_port, model_directory

from model_runtime import RuntimeManager, tensors
from model_runtime.client import Client
from model_runtime.protocols import PROTOCOLS
from model_runtime.settings import Settings

X = {"x": tensors.tensor(np.array([1.0]))}


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_metrics_tell_what_happened_and_what_is(serve: Any) -> None:
    port = free_port()
    client = serve(
        "def echo(x):\n    if x[0] < 0: raise ValueError\n    return {'y': x}\n", metrics_port=port, batch_max_size=64
    )
    for value in (1.0, 2.0, 3.0):
        client.predict({"x": tensors.tensor(np.array([value]))})
    for wrong in ({"x": tensors.tensor(np.array([-1.0]))}, {"x": tensors.tensor(1)}):
        with pytest.raises(grpc.RpcError):
            client.predict(wrong, protocol=PROTOCOLS["v3"])

    seen = scrape(port)

    assert seen['model_runtime_requests_total{code="OK",protocol="v2"}'] == 3
    assert seen['model_runtime_requests_total{code="INTERNAL",protocol="v3"}'] == 1
    assert seen['model_runtime_requests_total{code="INVALID_ARGUMENT",protocol="v3"}'] == 1
    assert seen['model_runtime_contract_violations_total{side="request"}'] == 1
    assert seen['model_runtime_prediction_seconds_count{part="all"}'] == 5
    assert seen['model_runtime_prediction_seconds_count{part="model"}'] >= 4
    assert seen["model_runtime_batch_size_count"] >= 4
    assert seen["model_runtime_in_flight"] == 0
    assert seen["model_runtime_queue_length"] == 0
    assert seen["model_runtime_serving"] == 1
    assert seen["model_runtime_process_restarts_total"] == 0
    assert seen['model_runtime_resident_bytes{process="model-0"}'] > 1 << 20


@pytest.mark.parametrize("isolation", ["process", "none"])
def test_the_queue_is_what_the_model_has_not_begun(serve: Any, isolation: str) -> None:
    port = free_port()
    slow = "import time\n\ndef echo(x):\n    time.sleep(0.7)\n    return {'y': x}\n"
    client = serve(slow, metrics_port=port, isolation=isolation)
    with futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.predict, X) for _ in range(4)]
        time.sleep(0.4)
        busy = scrape(port)
        for call in calls:
            call.result()

    assert (busy["model_runtime_in_flight"], busy["model_runtime_queue_length"]) == (4, 3)
    assert scrape(port)["model_runtime_queue_length"] == 0


def test_metrics_of_a_taken_port_are_refused_at_the_start(tmp_path: Path) -> None:
    port = free_port()
    model = model_directory(tmp_path)
    with (
        RuntimeManager(model, 0, settings=Settings(metrics_port=port)),
        pytest.raises(Exception, match="METRICS_PORT"),
    ):
        RuntimeManager(model, 0, settings=Settings(metrics_port=port)).start()


def test_requests_beyond_the_bytes_that_may_wait_are_refused(serve: Any) -> None:
    client = serve("import time\n\ndef echo(x):\n    time.sleep(0.5)\n    return {'y': x}\n", max_queue_bytes=20_000)
    large = {"x": tensors.tensor(np.zeros(1500))}
    with futures.ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.predict, large)
        time.sleep(0.2)
        with pytest.raises(grpc.RpcError, match="MAX_QUEUE_BYTES") as refused:
            client.predict(large)
        assert client.predict(X)["y"].tolist() == [1.0]
        assert first.result()["y"].shape == (1500,)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.predict({"x": tensors.tensor(np.zeros(5000))})["y"].shape == (5000,)  # alone, whatever its size


def test_liveness_is_computed_not_declared(serve: Any) -> None:
    client = serve()
    runtime = client.runtime
    before = client.health("liveness")
    blocked = threading.Event()
    host = runtime._host
    real_tick = host._tick
    host._tick = lambda: blocked.wait(30)  # the supervisor gets stuck
    host._ticked -= 60.0
    time.sleep(0.5)
    host._ticked = time.monotonic() - 60.0
    stuck = client.health("liveness"), client.health("")
    host._tick = real_tick
    blocked.set()
    time.sleep(0.5)

    assert (before, stuck, client.health("liveness")) == ("SERVING", ("NOT_SERVING", "NOT_SERVING"), "SERVING")


def test_logs_in_json_are_one_object_a_line_and_hold_no_payload(tmp_path: Path) -> None:
    code = "def echo(x):\n    raise ValueError('no')\n"
    with Program(model_directory(tmp_path, code), LOG_FORMAT="json", WARMUP="false", BATCH_MAX_SIZE="1") as program:
        program.wait_serving()
        with program.client() as client, pytest.raises(grpc.RpcError):
            client.predict({"x": tensors.tensor(np.array([123456.75]))})
        program.terminate()
        _, errors = program.end()

    lines = [json.loads(line) for line in errors.splitlines()]
    assert {"listening", "model process serves", "serving", "stopping", "stopped"} <= {
        line["message"] for line in lines
    }
    assert "123456.75" not in errors


@pytest.mark.parametrize("program", ["the image's", "the command line's", "a custom runtime's"])
def test_what_clients_provoke_in_grpcs_core_stays_out_of_the_logs(tmp_path: Path, program: str) -> None:
    """Each failed TLS handshake was a line of gRPC's own, in its own form."""
    custom = "import sys\nfrom model_runtime import RuntimeService, serve\nsys.exit(serve(RuntimeService))"
    commands = {"the image's": ["-m", "model_runtime"], "the command line's": ["-m", "model_runtime", "serve"]}
    port, model = free_port(), model_directory(tmp_path / "model")
    cert, key = Authority(tmp_path).issue("server")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"},
        **{"MODEL_DIR": str(model), "APP_PORT": str(port), "LOG_FORMAT": "json", "DRAIN_DELAY_SECONDS": "0"},
        **{"TLS_CERT_FILE": str(cert), "TLS_KEY_FILE": str(key)},
    }
    command = [sys.executable, *commands.get(program, ["-c", custom])]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        for _ in range(5):
            _talk_plainly(port)
        running.terminate()
        _, errors = running.communicate(timeout=30)

    lines = [json.loads(line) for line in errors.splitlines()]
    assert {"listening", "stopped"} <= {line["message"] for line in lines}


def _talk_plainly(port: int) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            with socket.create_connection(("localhost", port), timeout=5) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                connection.recv(100)
            return
        except ConnectionRefusedError:  # not listening yet
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        except ConnectionError:
            return


def test_exceptions_warnings_and_loggers_without_a_handler_are_lines_of_the_logs() -> None:
    code = (
        "import logging, threading, warnings\nfrom model_runtime.server import logs\n"
        "logs.configure('info', 'json')\nlogs.capture_everything()\n"
        "logging.getLogger('elsewhere').warning('from elsewhere')\nwarnings.warn('a warning')\n"
        "class Odd:\n    def __del__(self):\n        1 / 0\nOdd()\n"
        "thread = threading.Thread(target=lambda: [][1])\nthread.start()\nthread.join()\nraise KeyError('end')\n"
    )

    done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"].split("\n")[0].partition(": UserWarning")[2] or line["message"] for line in lines] == [
        "from elsewhere",
        ": a warning",
        "ignored exception",
        "uncaught exception in a thread",
        "uncaught exception",
    ]
    assert [line["exception"].splitlines()[-1].partition(":")[0] for line in lines[2:]] == [
        "ZeroDivisionError",
        "IndexError",
        "KeyError",
    ]
    assert done.returncode == 1


# Tracing ------------------------------------------------------------------------------------------------------------


def test_spans_join_the_callers_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real collector: the OTLP service, on a real port."""
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        spans: list[Any] = []  # noqa: RUF012

        def Export(self, request: Any, context: Any) -> Any:
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    self.spans += scope.spans
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), collector)
    port = collector.add_insecure_port("localhost:0")
    collector.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://localhost:{port}")
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with RuntimeManager(model_directory(tmp_path), 0, settings=Settings(tracing=True)) as runtime:
        runtime.wait_loaded(20)
        with Client(f"localhost:{runtime.port}") as client:
            call = client.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            request = tensors.encode_request(tensors.ERAS["v2"], tensors.Request(X))
            call(request, timeout=5, metadata=[("traceparent", f"00-{trace_id}-{parent}-01")])
            with pytest.raises(grpc.RpcError):
                call(b"\xff", timeout=5)
    collector.stop(1).wait()

    good, bad = sorted(Collector.spans, key=lambda span: span.status.code)
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (trace_id, parent)
    assert good.name == "tensorflow.serving.PredictionService/Predict"
    attributes = {item.key: item.value for item in good.attributes}
    assert attributes["rpc.grpc.status_code"].int_value == 0
    assert attributes["model.seconds"].double_value > 0
    assert bad.status.message == "InvalidRequest"
