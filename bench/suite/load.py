"""One load: the driver on its own core, and every answer that it saw checked against what is right."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from . import native
from .process import LOAD_CORE
from .wires import Wire
from .work import Array, Work

_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 50),
]


@dataclass(frozen=True)
class Figures:
    """What the driver measured. `wrong` counts different answers that are not right, `failed` calls without one."""

    calls: int
    rate: float
    p50: float
    p99: float
    wrong: int
    failed: int
    first_error: str


class Asker:
    """Asks one request until the answer is right: for the start of a server."""

    def __init__(self, wire: Wire, port: int, work: Work) -> None:
        self._wire, self._port, self._work = wire, port, work
        self._request = wire.request(work.inputs[0])
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", _OPTIONS)

    def is_right(self) -> bool:
        try:
            data = self._http() if self._wire.protocol == "http" else self._channel.unary_unary(self._wire.method)(
                self._request, timeout=60
            )  # fmt: skip
            return is_right(self._wire.answer(data, str(self._work.expected[0].dtype)), self._work.expected[0])
        except (grpc.RpcError, OSError, http.client.HTTPException, ValueError, KeyError):
            return False

    def close(self) -> None:
        self._channel.close()

    def _http(self) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", self._wire.method, self._request, {"Content-Type": "application/json"})
        return connection.getresponse().read()


def is_right(answer: Array, expected: Array) -> bool:
    """The same numbers: a matrix product's last digits depend on how many rows it had."""
    if answer.shape != expected.shape:
        return False
    if expected.dtype.kind in "US":
        return [_plain(each) for each in answer.ravel()] == [_plain(each) for each in expected.ravel()]
    return bool(np.allclose(answer, expected, rtol=1e-5, atol=1e-6))


def _plain(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def run(wire: Wire, port: int, work: Work, concurrency: int, seconds: float, folder: Path) -> Figures:
    requests, answers = folder / "requests", folder / "answers"
    for each in (requests, answers):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    for number, inputs in enumerate(work.inputs):
        (requests / str(number)).write_bytes(wire.request(inputs))
    command = [
        "taskset", "-c", str(LOAD_CORE), str(native.program("load")), "-target", f"127.0.0.1:{port}", "-protocol", wire.protocol,
        "-method", wire.method, "-requests", str(requests), "-answers", str(answers),
        "-concurrency", str(concurrency), "-seconds", str(seconds), "-warm", str(min(1.0, seconds / 4)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    wrong = told["unchecked"] + sum(not _checked(wire, work, file) for file in answers.iterdir())
    failed = sum(told["errors"].values())
    first = next(iter(told["errors"]), "")[:200]
    return Figures(told["calls"], told["rate"], told["p50"], told["p99"], wrong, failed, first)


def _checked(wire: Wire, work: Work, file: Path) -> bool:
    expected = work.expected[int(file.name.partition(".")[0])]
    return is_right(wire.answer(file.read_bytes(), str(expected.dtype)), expected)
