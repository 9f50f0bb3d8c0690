"""Counts and durations of all predictions since the start, over every protocol: what ModelStatistics answers."""

from __future__ import annotations

import threading
import time
from functools import partial

import grpc

from .. import wire
from ..errors import PredictionError
from ..outcome import Outcome
from .observers import End

_SECOND = 1e9  # in nanoseconds


class Duration:
    """inference.StatisticDuration."""

    def __init__(self) -> None:
        self.count = self.ns = 0

    def add(self, ns: float) -> None:
        self.count += 1
        self.ns += max(0, int(ns))

    def message(self) -> bytes:
        """{1: count, 2: ns}."""
        return wire.varint_field(1, self.count) + wire.varint_field(2, self.ns)


class Statistics:
    """An observer that counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._success, self._fail, self._queue, self._codec, self._model = (Duration() for _ in range(5))
        self._executions = 0.0
        self._last = 0.0

    def begin(self, path: str, size: int, context: grpc.ServicerContext) -> End:
        return partial(self._end, time.perf_counter())

    def _end(self, began: float, outcome: Outcome) -> None:
        ns = (time.perf_counter() - began) * _SECOND
        with self._lock:
            self._last = time.time()
            if isinstance(outcome.result, PredictionError):
                self._fail.add(ns)
                return
            model, codec = outcome.model_seconds * _SECOND, outcome.codec_seconds * _SECOND
            self._success.add(ns)
            self._queue.add(ns - model - codec)
            self._codec.add(codec)
            self._model.add(model)
            self._executions += 1 / max(1, outcome.batch)

    def message(self) -> bytes:
        """The fields of inference.ModelStatistics from 3 on. Decoding and encoding are timed together, as compute_input."""
        with self._lock:
            durations = (self._success, self._fail, self._queue, self._codec, self._model)
            told = b"".join(wire.length_field(number, each.message()) for number, each in enumerate(durations, 1))
            counts = (int(self._last * 1000), self._success.count, round(self._executions))
        return b"".join(wire.varint_field(3 + at, count) for at, count in enumerate(counts)) + wire.length_field(
            6, told
        )
