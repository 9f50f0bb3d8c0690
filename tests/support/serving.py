"""Model directories for tests, and runtimes that serve them: in this process, or as the real program in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from model_runtime import contract
from model_runtime.client import Client

ECHO_CONTRACT = {
    "name": "echo",
    "inputs": {"x": {"shape": [-1], "type": "double"}},
    "outputs": {"y": {"shape": [-1], "type": "double"}},
}
ECHO = "def echo(x):\n    return {'y': x}\n"


def model_directory(
    path: Path,
    code: str = ECHO,
    promise: Mapping[str, Any] = ECHO_CONTRACT,
    *,
    era: str = "v2",
    files: Mapping[str, str] = {},
) -> Path:
    """A model directory at `path` with that code and contract."""
    for name, text in {"src/func_main.py": code, **files}.items():
        file = path / "files" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    (path / "contract.protobin").write_bytes(contract.write(contract.parse(promise), era))
    return path


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


class Program:
    """`python -m model_runtime` over a model directory, with its stderr at hand. Ends with the test."""

    def __init__(self, model_dir: Path, *, port: int | None = None, **environment: str) -> None:
        self.port = free_port() if port is None else port
        variables = {
            **os.environ,
            "MODEL_DIR": str(model_dir),
            "APP_PORT": str(self.port),
            "DRAIN_DELAY_SECONDS": "0",
            "LOAD_FAILURE_SECONDS": "0",
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "model_runtime"],
            env=variables,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def client(self) -> Client:
        return Client(f"localhost:{self.port}", timeout=20)

    def wait_serving(self, timeout: float = 30.0) -> None:
        wait_health(f"localhost:{self.port}", health_pb2.HealthCheckResponse.SERVING, timeout)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self, timeout: float = 30.0) -> tuple[int, str]:
        """Exit status and stderr, once the program has ended."""
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def wait_health(
    target: str, status: int, timeout: float, service: str = "tensorflow.serving.PredictionService"
) -> None:
    """Returns when health says so."""
    end = time.monotonic() + timeout
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < end:
            try:
                if stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=2).status == status:
                    return
            except grpc.RpcError:
                pass
            time.sleep(0.05)
    raise AssertionError(f"{target}: health of {service} was not {status} within {timeout} s")
