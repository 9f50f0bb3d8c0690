"""Runs a model's coroutines, all of them on one event loop in one thread, as asyncio libraries expect."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any, Awaitable, Optional

from ..errors import DeadlineExceeded


class Coroutines:
    """An event loop that starts with the first coroutine it is given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def run(self, awaitable: Awaitable[Any], timeout: Optional[float] = None) -> Any:
        """What `awaitable` returns or raises. After `timeout` seconds it is cancelled, and DeadlineExceeded raised."""
        future = asyncio.run_coroutine_threadsafe(_await(awaitable), self._running_loop())
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            if future.done():  # the model's own TimeoutError
                raise
            future.cancel()
            raise DeadlineExceeded("the model took longer than the caller's deadline") from None

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="model-coroutines", daemon=True).start()
            return self._loop


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
