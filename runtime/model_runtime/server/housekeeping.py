"""Periodic work of the server: timeouts of calls, the end of streams at their connection's age, the process's own health."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Executor

from .. import memory
from ..errors import DeadlineExceeded, NotServing, Overloaded
from ..settings import Settings
from .engine import Direct
from .health import Health
from .methods import Bounds

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
OWN_BYTES = (
    256 << 20
)  # beside MAX_QUEUE_BYTES: what connections, open calls and malloc take, and what comes within a tick
SLOW_SECONDS = 0.25  # a request that arrives for longer is the first to go where memory is short
# gRPC renews a connection at its age give or take a tenth; a stream that is older is on one that has been told to end.
AGE_FACTOR, AGE_GRACE_SECONDS = 1.1, 1.0


class Housekeeping:
    """A thread that ticks."""

    def __init__(self, settings: Settings, executor: Executor, health: Health, bounds: Bounds) -> None:
        self._settings, self._executor, self._health, self._bounds = settings, executor, health, bounds
        self._most = 0  # resident bytes; 0: any
        self._is_short = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        if (
            self._settings.isolation == "process"
        ):  # else the model's memory is this process's, and says nothing of calls
            self._most = memory.resident() + self._settings.max_queue_bytes + OWN_BYTES
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
        self._relieve(now)
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

    def _relieve(self, now: float) -> None:
        """Where too much is resident, slow requests and answers give way: grpcio does not say what it holds of each."""
        if not self._most or memory.resident() <= self._most:
            self._is_short = False
            return
        memory.give_back()
        over = memory.resident() - self._most
        if over <= 0:
            return
        log.warning("memory is short: slow requests are refused", extra={"bytes_over": over})
        error = Overloaded("requests that are arriving take more memory than there is (MAX_QUEUE_BYTES)")
        for places in self._bounds.arriving:
            places.refuse(error, before=now if self._is_short else now - SLOW_SECONDS)
        if isinstance(self._executor, Direct):
            self._executor.departures.drive_out(over)
        self._is_short = True
