"""Threads for gRPC's handlers. Predictions and probes never share any: a busy model must not make its probes wait."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

log = logging.getLogger(__name__)


class _Task(Future[Any]):
    """What grpcio needs of a future: to be told when it is done. The rest of a Future costs more than a small prediction."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._callbacks: list[Callable[[Future[Any]], object]] = []
        self._is_done = False

    def add_done_callback(self, callback: Callable[[Future[Any]], object]) -> None:
        self._callbacks.append(callback)
        if self._is_done:  # it ran before grpcio came to ask
            self._tell()

    def run(self) -> None:
        try:
            self._call()
        except Exception:
            log.exception("a call ended in an internal error")
        finally:
            self._is_done = True
            self._tell()

    def _tell(self) -> None:
        try:
            callback = self._callbacks.pop()  # atomic: two threads may come here, one of them finds it
        except IndexError:
            return
        callback(self)


class PredictExecutor(ThreadPoolExecutor):
    """A bounded number of threads and a queue whose length can be seen, so that one call too many can be refused.

    A ThreadPoolExecutor only by name, which grpcio insists on: nothing of its machinery is used.
    """

    def __init__(self, threads: int, *, limit: int) -> None:
        super().__init__(1)
        self.limit = limit
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._most = threads
        self._own_threads: list[threading.Thread] = []

    @property
    def full(self) -> bool:
        return self._tasks.qsize() >= self.limit

    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._tasks.qsize()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task = _Task(lambda: call(*args, **kwargs))
        self._tasks.put(task)
        if (
            len(self._own_threads) < self._most
        ):  # each of the first calls brings a thread; grpcio submits from one thread only
            self._own_threads.append(threading.Thread(target=self._work, name="predict", daemon=True))
            self._own_threads[-1].start()
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for _ in self._own_threads:
            self._tasks.put(None)
        super().shutdown(wait, cancel_futures=cancel_futures)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
