"""Runs a model's coroutines, all of them on one event loop in one thread, as asyncio libraries expect."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from typing import Any, Awaitable, Optional, Tuple

from ..errors import DeadlineExceeded

log = logging.getLogger(__name__)


class Coroutines:
    """An event loop that starts with the first coroutine it is given."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def run(self, awaitable: Awaitable[Any], timeout: Optional[float] = None) -> Any:
        """What `awaitable` returns or raises. After `timeout` seconds it is cancelled, and DeadlineExceeded raised."""
        future = asyncio.run_coroutine_threadsafe(_settled(awaitable), self._running_loop())
        try:
            result, error = future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise DeadlineExceeded("the model took longer than the caller's deadline") from None
        if error is not None:
            raise error
        return result

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_turn, args=(self._loop,), name="model-coroutines", daemon=True).start()
            return self._loop


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    """Keeps the loop running, whatever the model's own tasks raise into it, and when they stop it."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except BaseException as error:  # SystemExit and KeyboardInterrupt leave a loop
            log.error("a task of the model's event loop failed", exc_info=error)


async def _settled(awaitable: Awaitable[Any]) -> Tuple[Any, Optional[BaseException]]:
    """What it returns and what it raises, as values: raised here, some exceptions would end the loop for everybody."""
    try:
        return await awaitable, None
    except BaseException as error:  # noqa: BLE001
        return None, error
