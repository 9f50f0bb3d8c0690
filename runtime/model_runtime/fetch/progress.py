"""A line in the log every few seconds, so that a long download can be told from one that hangs."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
MIB = 1 << 20


class Progress:
    """Counts bytes of `name` towards `total` (None: unknown)."""

    def __init__(self, name: str, total: int | None, done: int = 0) -> None:
        self._name, self._total, self._done = name, total, done
        self._began = self._said = time.monotonic()
        self._first = done

    def add(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._said >= EVERY_SECONDS:
            self._said = time.monotonic()
            self.say("fetching")

    def say(self, word: str) -> None:
        seconds = max(time.monotonic() - self._began, 1e-3)
        share = {"percent": round(100 * self._done / self._total, 1)} if self._total else {}
        rate = round((self._done - self._first) / MIB / seconds, 1)
        log.info(word, extra={"file": self._name, "mib": round(self._done / MIB, 1), "mib_per_s": rate, **share})
