"""The operator as a process: started as its image starts it, asked over HTTP, stopped by SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from types import TracebackType

from . import processes

START_SECONDS = 300.0
STOP_SECONDS = 30.0


class OperatorFailed(Exception):
    """The operator ended or did not become ready; the text holds the last of its log."""


class Operator:
    """`with Operator(kubeconfig, log) as operator:` one operator that is ready and leads, its caches filled."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self._kubeconfig, self._log = kubeconfig, log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])

    def __enter__(self) -> Operator:
        variables = {
            **os.environ,
            "KUBECONFIG": str(self._kubeconfig),
            "RUNTIME_IMAGE": "runtime.example.com/model-runtime:1",
            "HTTP_PORT": str(self._port),
            "LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-m", "model_runtime_operator"]
        with self._log.open("ab") as stream:
            self._process = subprocess.Popen(command, env=variables, stdout=stream, stderr=stream)
        started = time.monotonic()
        try:
            self._wait_ready(started + START_SECONDS)
        except BaseException:
            self._process.kill()
            raise
        self.seconds_to_ready = time.monotonic() - started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise OperatorFailed(f"not stopped within {STOP_SECONDS:g} s of SIGTERM{self._words()}") from None

    def metric(self, name: str) -> float:
        """The sum over all series of `model_runtime_operator_{name}`."""
        return sum(value for _, value in self._series(name))

    @property
    def writes(self) -> Counter[str]:
        """How many objects were written, by kind."""
        count: Counter[str] = Counter()
        for labels, value in self._series("writes_total"):
            count[labels["kind"]] += int(value)
        return count

    @property
    def cpu_seconds(self) -> float:
        return processes.cpu_seconds(self._process.pid)

    @property
    def resident_mib(self) -> float:
        return processes.resident_mib(self._process.pid)

    @property
    def peak_mib(self) -> float:
        return processes.peak_mib(self._process.pid)

    def _wait_ready(self, end: float) -> None:
        while True:
            if self._process.poll() is not None:
                raise OperatorFailed(f"ended with {self._process.returncode} before it was ready{self._words()}")
            try:
                self._ask("readyz")
                if self.metric("leading") == 1:
                    return
                reason = "it does not lead"
            except OSError as error:  # not listening yet, or not ready
                reason = str(error)
            if time.monotonic() > end:
                raise OperatorFailed(f"not ready within {START_SECONDS:g} s: {reason}{self._words()}")
            time.sleep(0.05)

    def _ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def _series(self, name: str) -> list[tuple[dict[str, str], float]]:
        found = re.findall(rf"^model_runtime_operator_{name}(?:{{(.*)}})? (\S+)$", self._ask("metrics"), re.MULTILINE)
        return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value)) for labels, value in found]

    def _words(self) -> str:
        return f"\n{self._log.read_text(errors='replace')[-2000:]}"
