"""A line in the log every two seconds, so that a long step can be told from one that hangs."""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
MIB = 1 << 20


class Progress:
    """Counts bytes of `name` towards `total` (None: unknown). Threads may share one."""

    def __init__(self, name: str, total: int | None, done: int = 0, *, event: str = "fetching") -> None:
        self._name, self._total, self._done, self._event = name, total, done, event
        self._began = self._logged = time.monotonic()
        self._first = done
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            if time.monotonic() - self._logged < EVERY_SECONDS:
                return
            self._logged = time.monotonic()
        self.write(self._event)

    def write(self, event: str) -> None:
        seconds = max(time.monotonic() - self._began, 1e-3)
        share = {"percent": round(100 * self._done / self._total, 1)} if self._total else {}
        rate = round((self._done - self._first) / MIB / seconds, 1)
        log.info(event, extra={"file": self._name, "mib": round(self._done / MIB, 1), "mib_per_s": rate, **share})
