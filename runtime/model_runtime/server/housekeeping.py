"""Periodic work of the server: timeouts of calls, the end of streams at their connection's age, the process's own health."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Executor

from ..errors import DeadlineExceeded, NotServing
from ..settings import Settings
from .engine import Direct
from .health import Health
from .methods import Bounds

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
# gRPC renews a connection at its age give or take a tenth; a stream that is older is on one that has been told to end.
AGE_FACTOR, AGE_GRACE_SECONDS = 1.1, 1.0


class Housekeeping:
    """A thread that ticks."""

    def __init__(self, settings: Settings, executor: Executor, health: Health, bounds: Bounds) -> None:
        self._settings, self._executor, self._health, self._bounds = settings, executor, health, bounds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            try:
                self._tick()
            except Exception:
                log.exception("housekeeping failed")

    def _tick(self) -> None:
        now = time.monotonic()
        self._health.refresh()
        timeout = self._settings.transfer_timeout
        if timeout:
            late = DeadlineExceeded(f"the request did not arrive within {timeout:g} s (TRANSFER_TIMEOUT)")
            for places in self._bounds.arriving:
                places.refuse(late, before=now - timeout)
        if isinstance(self._executor, Direct):
            self._executor.sweep(timeout)
        age = self._settings.max_connection_age_seconds
        if age:
            for places in self._bounds.streams:
                places.refuse(
                    NotServing("the connection has reached its age (MAX_CONNECTION_AGE_SECONDS)"),
                    before=now - age * AGE_FACTOR - AGE_GRACE_SECONDS,
                )
