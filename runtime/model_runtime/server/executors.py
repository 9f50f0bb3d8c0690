"""Threads for gRPC's handlers. Predictions and probes never share any: a busy model must not make its probes wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BoundedExecutor(ThreadPoolExecutor):
    """A thread pool that knows how many calls are waiting for a thread, so that one too many can be refused."""

    def __init__(self, threads: int, *, limit: int) -> None:
        super().__init__(threads, thread_name_prefix="predict")
        self.limit = limit
        self._waiting = 0
        self._waiting_lock = threading.Lock()

    @property
    def full(self) -> bool:
        return self._waiting >= self.limit

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._waiting_lock:
            self._waiting += 1
        return super().submit(self._run, call, *args, **kwargs)

    def _run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._waiting_lock:
            self._waiting -= 1
        return call(*args, **kwargs)
