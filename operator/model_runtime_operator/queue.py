"""The work queue: what has to be reconciled, each ModelRuntime once however often it was asked for, and never twice at a time.

Failures come back later and later, with jitter; a change of the object itself does not wait for that. Knows no cluster.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time

from . import metrics

Key = tuple[str, str]

FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.5, 60.0  # seconds


class Queue:
    """`add` and `failed` put a key in; `take` waits for the next that is due; `done` says it may be taken again."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is due now and nothing is worked on."""
        now = time.monotonic()
        return not self._working and all(due > now for due in self._due.values())

    def add(self, key: Key, delay: float = 0.0) -> None:
        """The key is due in `delay` seconds, or earlier if it was going to be."""
        due = time.monotonic() + delay
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._news.set()
        metrics.QUEUE_DEPTH.set(len(self._due))

    def failed(self, key: Key) -> float:
        """Queues the key again, later than the last time; returns how many seconds later."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay: float = min(FIRST_BACK_OFF * 2 ** (failures - 1), LONGEST_BACK_OFF) * random.uniform(0.5, 1.5)
        self.add(key, delay)
        return delay

    def succeeded(self, key: Key) -> None:
        self._failures.pop(key, None)

    def done(self, key: Key) -> None:
        self._working.discard(key)
        self._news.set()

    def clear(self) -> None:
        self._due.clear()
        self._heap.clear()
        self._failures.clear()

    async def take(self) -> Key:
        while True:
            key, wait = self._next()
            if key is not None:
                return key
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), wait)
            except asyncio.TimeoutError:
                continue

    def _next(self) -> tuple[Key | None, float | None]:
        """A key that is due and not being worked on; else how long until one may be."""
        now = time.monotonic()
        postponed, found, wait = [], None, None
        while self._heap and found is None:
            due, order, key = self._heap[0]
            if self._due.get(key) != due:  # asked for earlier since, and done
                heapq.heappop(self._heap)
            elif due > now:
                wait = due - now
                break
            else:
                heapq.heappop(self._heap)
                if key in self._working:
                    postponed.append((due, order, key))
                else:
                    found = key
        for each in postponed:
            heapq.heappush(self._heap, each)
        if found is not None:
            metrics.QUEUE_SECONDS.observe(now - self._due.pop(found))
            metrics.QUEUE_DEPTH.set(len(self._due))
            self._working.add(found)
        return found, wait
