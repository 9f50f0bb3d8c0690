"""A list and a watch that keep one kind in the cache, and say how long ago they gave a sign of life. Reads only."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Any

from .. import metrics
from .cache import Cache, entry
from .connection import METADATA_LIST, METADATA_ONLY, Connection
from .errors import ClusterError, Refused
from .kinds import Key, Kind, key_of

log = logging.getLogger(__name__)

PAGE = "200"  # objects: their JSON is parsed in about 10 ms, in which nothing else happens
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0  # seconds before a broken watch is started again


class Informer:
    """One kind in one namespace (None: all). `run` it in a task of its own."""

    def __init__(self, connection: Connection, cache: Cache, kind: Kind, namespace: str | None) -> None:
        self._connection, self._cache, self.kind, self._namespace = connection, cache, kind, namespace
        self._path = kind.path(namespace)
        self._version = ""
        self.synced = asyncio.Event()
        self.last_sign = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the API server last told anything, be it a bookmark."""
        return time.monotonic() - self.last_sign

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                if not self._version:
                    await self._list()
                async for event in self._connection.watch(*self._request()):
                    self._take(event)
                    pause = FIRST_PAUSE
                why = "ended"
            except _Gone:
                self._version, why = "", "gone"
            except ClusterError as error:
                why = "refused" if isinstance(error, Refused) else "broken"
                self._version = "" if isinstance(error, Refused) else self._version
                log.warning(
                    "watch broken", extra={"kind": self.kind.name, "error": str(error), "again_in": round(pause, 1)}
                )
            metrics.WATCH_RESTARTS.labels(self.kind.name, why).inc()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _list(self) -> None:
        """Brings the cache to what the API server has, page by page; what no page has is gone."""
        listed: set[Key] = set()
        token = version = ""
        while True:
            page = await self._page(token)
            for item in page.get("items") or ():
                new = entry(self.kind, self.kind.keep(item))
                listed.add(new.key)
                self._cache.put_entry(self.kind, new)
            token, version = page["metadata"].get("continue", ""), page["metadata"]["resourceVersion"]
            if not token:
                break
        for number, key in enumerate(self._cache.missing(self.kind, self._namespace, listed, int(version))):
            self._cache.remove(self.kind, key)
            if number % int(PAGE) == 0:
                await asyncio.sleep(0)
        self.last_sign = time.monotonic()
        self.synced.set()
        self._version = str(version)

    async def _page(self, token: str) -> dict[str, Any]:
        params = {**self._selectors(), "limit": PAGE, **({"continue": token} if token else {})}
        accept = METADATA_LIST if self.kind.metadata_only else "application/json"
        try:
            return await self._connection.get(self._path, accept, **params)
        except Refused as refusal:
            if refusal.status == 410:  # the continuation is too old: begin again
                raise _Gone from None
            raise

    def _request(self) -> tuple[str, str, dict[str, str]]:
        accept = METADATA_ONLY if self.kind.metadata_only else "application/json"
        return self._path, accept, {**self._selectors(), "resourceVersion": self._version}

    def _take(self, event: dict[str, Any]) -> None:
        self.last_sign = time.monotonic()
        item = event["object"]
        if event["type"] == "ERROR":
            raise _Gone
        self._version = str(item["metadata"]["resourceVersion"])
        if event["type"] == "DELETED":
            self._cache.remove(self.kind, key_of(item), item)
        elif event["type"] != "BOOKMARK":
            self._cache.put(self.kind, self.kind.keep(item))

    def _selectors(self) -> dict[str, str]:
        selectors = {"labelSelector": self.kind.label_selector, "fieldSelector": self.kind.field_selector}
        return {key: value for key, value in selectors.items() if value}


class _Gone(Exception):
    """The version is too old to go on from: list again."""
