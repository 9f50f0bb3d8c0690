"""The load: sends one request's bytes to Predict, some at a time, checks every answer, and prints rates and times as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from model_runtime import tensors

PATH = "/tensorflow.serving.PredictionService/Predict"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
MOST_CHANNELS = 4


def main(target: str, request_file: str, concurrency: str, count: str) -> None:
    request = Path(request_file).read_bytes()
    channels = [
        grpc.insecure_channel(target, [*OPTIONS, ("bench.channel", number)])
        for number in range(min(int(concurrency), MOST_CHANNELS))
    ]
    calls = [channel.unary_unary(PATH) for channel in channels]
    expected = calls[0](request)
    load = _Load(calls, request, int(count), int(concurrency))
    seconds = load.run()
    load.times.sort()
    print(
        json.dumps(
            {
                "rate": load.total / seconds,
                "p50": load.times[len(load.times) // 2],
                "p99": load.times[len(load.times) * 99 // 100],
                "wrong": load.failed + sum(not _is_close(answer, expected) for answer in load.answers),
            }
        )
    )


def _is_close(answer: bytes, expected: bytes) -> bool:
    """Whether two answers hold the same numbers: a matrix product's last digits depend on how many rows it had."""
    if answer == expected:
        return True
    era = tensors.ERAS["v2"]
    one, other = (tensors.decode_response(era, data)["y"] for data in (answer, expected))
    return one.shape == other.shape and bool(np.allclose(one.values, other.values, rtol=1e-6))


class _Load:
    """Keeps `concurrency` calls under way until `total` have been answered."""

    def __init__(self, calls: list[Any], request: bytes, total: int, concurrency: int) -> None:
        self.calls, self.request, self.total = calls, request, total
        self.concurrency = concurrency
        self.times: list[float] = []
        self.failed = 0
        self.answers: set[bytes] = set()  # the different ones: few
        self._left = iter(range(total))
        self._lock = threading.Lock()
        self._done = threading.Event()

    def run(self) -> float:
        started = time.perf_counter()
        if self.concurrency == 1:
            for _ in self._left:
                before = time.perf_counter()
                self._check(self.calls[0](self.request), before)
        else:
            for number in range(self.concurrency):
                self._send(number)
            self._done.wait()
        return time.perf_counter() - started

    def _send(self, number: int) -> None:
        with self._lock:
            if next(self._left, None) is None:
                return
        before = time.perf_counter()
        future = self.calls[number % len(self.calls)].future(self.request)
        future.add_done_callback(lambda done: self._answered(number, done, before))

    def _answered(self, number: int, done: Any, before: float) -> None:
        self._check(None if done.exception() else done.result(), before)
        self._send(number)

    def _check(self, answer: bytes | None, before: float) -> None:
        with self._lock:
            self.times.append(time.perf_counter() - before)
            if answer is None:
                self.failed += 1
            else:
                self.answers.add(answer)
            if len(self.times) == self.total:
                self._done.set()


if __name__ == "__main__":
    main(*sys.argv[1:])
